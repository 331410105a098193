package job_test

import (
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAStoredEventIsTheJobsOnlyWhenItNamesIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body  string
		named bool
		wrong string // part of the error
		host  string
	}{
		{`{"job":"one","tenant":"acme","host":"gpu-1"}`, true, "", "gpu-1"},
		{`{"job":"two","tenant":"acme","host":"gpu-1"}`, false, "", "gpu-1"},
		{`{"job":"one","tenant":"bolt","host":"gpu-1"}`, false, "", "gpu-1"},
		{`{"stream":"COMFY_EVENTS","seq":7}`, false, "", ""},
		{`no JSON`, false, "decode failed event", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","priority":-1}`, true, "priority -1", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","kind":"tired"}`, true, `the kind "tired" is unknown`, ""},
		{`{"job":"two","tenant":"acme","host":"gpu-1","kind":"tired"}`, false, `the kind "tired" is unknown`, ""},
		{`{"job":"two","tenant":"acme","priority":-1}`, false, "priority -1", ""},
		{`{"job":"one","tenant":"bolt","priority":-1}`, false, "priority -1", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","kind":"timeout"}`, true, "", "gpu-1"},
		{`{"job":"one","tenant":"acme","host":"gpu-1","position":2147483647,"bytes":2147483647}`, true, "", "gpu-1"},
		{`{"job":"one","tenant":"acme","host":"gpu-1","bytes":2147483648}`, true, "out of range", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","ran_for":"876000h","time":"2299-12-31T23:59:59Z","until":"1970-01-01T00:00:00Z"}`, true, "", "gpu-1"},
		{`{"job":"one","tenant":"acme","host":"h","attempts":[{}` + strings.Repeat(`,{}`, 4095) + `],"avoided_hosts":["a"` + strings.Repeat(`,"a"`, 4095) + `]}`, true, "", "h"},
		{`{"job":"one","tenant":"acme","host":"h","outputs":[{}` + strings.Repeat(`,{}`, 65535) + `]}`, true, "", "h"},
		{`{"job":"one","tenant":"acme","attempts":[{}` + strings.Repeat(`,{}`, 4096) + `]}`, true, "4097 attempts", ""},
		{`{"job":"one","tenant":"acme","outputs":[{}` + strings.Repeat(`,{}`, 65536) + `]}`, true, "65537 outputs", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","position":2147483648}`, true, "out of range", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","ran_for":"876001h"}`, true, "a duration is", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","time":"2300-01-01T00:00:00Z"}`, true, "a time is", ""},
		{`{"job":"one","tenant":"acme","host":"gpu-1","until":"1969-12-31T00:00:00Z"}`, true, "a time is", ""},
		{`{"job":"one","tenant":"acme","avoided_hosts":["a"` + strings.Repeat(`,"a"`, 4096) + `]}`, true, "4097 avoided hosts", ""},
	} {
		e, named, err := job.DecodeStored("acme", "one", job.Failed, []byte(c.body))
		if named != c.named || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%.80s: named %v, %v; want %v and %q", c.body, named, err, c.named, c.wrong)
		}
		if e.EventKind != job.Failed || e.Job != "one" || e.Tenant != "acme" || e.Host != c.host {
			t.Errorf("%.80s is read as %+v", c.body, e)
		}
	}
}
