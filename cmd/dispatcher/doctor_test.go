package main_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// doctor runs the command and gives its code and what it printed.
func (f *fleet) doctor(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out, say bytes.Buffer
	code := main.Run(t.Context(), append([]string{"doctor", "--nats-url=" + f.url}, args...), nil, &out, &say)
	return code, out.String() + say.String()
}

func TestTheDoctorSendsAJobOfEachTenantToEachHostAndSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	code, said := f.doctor(t)
	if code != 0 {
		t.Errorf("code %d of a healthy fleet:\n%s", code, said)
	}
	for _, want := range []string{"✓ NATS", "✓ streams", "✓ dispatchers", "✓ storage", "✓ host sim", "✓ jobs         6 of 6 completed", "✓ files", "Nothing is wrong"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}

	code, said = f.doctor(t, "--json", "--tenant=acme", "--host=sim", "--host=gone")
	var found struct {
		OK     bool
		Checks []struct{ State, What, Do string }
		Jobs   []struct{ Tenant, Wanted, Host, State string }
	}
	if err := json.Unmarshal([]byte(said), &found); err != nil || code != 1 || found.OK {
		t.Fatalf("code %d, %v:\n%s", code, err, said)
	}
	if len(found.Jobs) != 1 || found.Jobs[0].Tenant != "acme" || found.Jobs[0].Host != "sim" || found.Jobs[0].State != "completed" {
		t.Errorf("the jobs were %+v", found.Jobs)
	}
	for _, c := range found.Checks {
		if c.State == "wrong" && (c.What != "host gone" || c.Do == "") {
			t.Errorf("wrong is %+v, want the host that is not there, with what to do", c)
		}
	}

	f.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultRaise, Exception: "ValueError", Message: "no more paint"})
	code, said = f.doctor(t, "--tenant=acme", "--host=sim")
	if code != 1 || !strings.Contains(said, "✗ jobs         1 of 1 for sim did not complete; acme/doctor-") || !strings.Contains(said, "no more paint") || !strings.Contains(said, "dispatcher why doctor-") {
		t.Errorf("code %d of a host on which jobs fail:\n%s", code, said)
	}
}

func TestTheDoctorCancelsWhatDoesNotEndInTime(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultHang}}})
	code, said := f.doctor(t, "--tenant=acme", "--tenant=bolt", "--host=sim", "--timeout=1s")
	if code != 1 || !strings.Contains(said, "2 of 2 for sim did not complete") || !strings.Contains(said, "it has not ended within 1") || strings.Count(said, "✗") != 1 {
		t.Errorf("code %d of a host that hangs:\n%s", code, said)
	}
	f.until(t, []string{"jobs", "--tenant=acme"}, "cancelled")
}

// A fleet that is busy is not broken.
func TestTheDoctorOfABusyFleetWarns(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultHang}}})
	for _, id := range []string{"long-1", "long-2"} { // the host runs one, and has the other before it
		f.publish(t, "--id="+id)
	}
	f.until(t, []string{"hosts"}, "long-2")
	code, said := f.doctor(t, "--tenant=acme", "--host=sim", "--timeout=1s")
	if code != 0 || !strings.Contains(said, "! jobs         1 of 1 for sim did not complete") || !strings.Contains(said, "Other jobs come first.") || !strings.Contains(said, "1 of 1 slot busy") {
		t.Errorf("code %d of a host that is busy:\n%s", code, said)
	}
}

func TestTheDoctorOfNothingSaysWhatToStart(t *testing.T) {
	t.Parallel()
	f := &fleet{url: "nats://127.0.0.1:1"}
	if code, said := f.doctor(t); code != 1 || !strings.Contains(said, "✗ NATS") || !strings.Contains(said, "dispatcher run") {
		t.Errorf("code %d, said %s", code, said)
	}
	if code, said := f.doctor(t, "--tenant=a b"); code != 1 || !strings.Contains(said, "is not a tenant name") {
		t.Errorf("code %d, said %s", code, said)
	}
}
