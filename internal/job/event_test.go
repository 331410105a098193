package job_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
)

var somehash = strings.Repeat("0123456789abcdef", 4)

func TestAnEventWithAValueThatCannotBeIsNone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fields, wrong string }{
		{`"priority":10`, "priority 10 is none of 0 to 9"},
		{`"priority":-1`, "priority -1 is none of 0 to 9"},
		{`"hash":"abc"`, `"abc" is no hash`},
		{`"host":"a b"`, `"a b" is no host name`},
		{`"requeue_of":"a.b"`, `requeue_of "a.b" is no job id`},
		{`"attempt":-1`, "attempt -1 is out of range"},
		{`"attempt":9000000000000`, "attempt 9000000000000 is out of range"},
		{`"max_attempts":101`, "max_attempts 101 is out of range"},
		{`"position":-1`, "position -1 is out of range"},
		{`"size":-1`, "size -1 is negative"},
		{`"progress":1.5`, "progress 1.5 is not from 0 to 1"},
		{`"progress":-0.5`, "progress -0.5 is not from 0 to 1"},
		{`"ran_for":"-1s"`, `duration "-1s" is negative`},
		{`"outputs":[{"filename":"x.png","size":-5}]`, `output "x.png" has size -5`},
		{`"attempts":[{"attempt":-2,"host":"a"}]`, `attempt -2 on host "a", progress 0, cannot be`},
		{`"attempts":[{"attempt":1,"host":"a","progress":2}]`, `attempt 1 on host "a", progress 2, cannot be`},
		{`"attempts":[{"attempt":1,"host":"a/b"}]`, `attempt 1 on host "a/b", progress 0, cannot be`},
		{`"time":"0"`, "parsing time"},
	} {
		if e, err := job.DecodeEvent(job.Failed, []byte("{"+c.fields+"}")); err == nil || !strings.Contains(err.Error(), c.wrong) || e.EventKind != "" {
			t.Errorf("%s is %+v, %v; want %q", c.fields, e, err, c.wrong)
		}
	}
	body := `{"job":"a","priority":9,"hash":"` + somehash + `","host":"gpu-1","attempt":7,"position":1,"progress":1,"attempts":[{"attempt":1,"host":""}],"new":1}`
	if e, err := job.DecodeEvent(job.Failed, []byte(body)); err != nil || e.EventKind != job.Failed || e.Attempt != 7 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestATimeThatClocksMakeNegativeIsWrittenAsNone(t *testing.T) {
	t.Parallel()
	e := job.Event{RanFor: -5}
	body, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if e, err := job.DecodeEvent(job.Completed, body); err != nil || e.RanFor != 0 {
		t.Errorf("%s is read as %v, %v", body, e.RanFor, err)
	}
}

// FuzzDecodeEvent: nothing panics, and what is read can be written and is the same when it is read again.
func FuzzDecodeEvent(f *testing.F) {
	all := full()
	all.Hash = ""
	body, err := all.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"priority":-1,"attempts":[{"attempt":-1}],"hosts":{"a":"b"},"node_times":{"1":"5s"},"seeds":{"1":18446744073709551615}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := job.DecodeEvent(job.Failed, body)
		if err != nil {
			return
		}
		_ = e.Failure()
		written, err := e.Encode()
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", e, err)
		}
		again, err := job.DecodeEvent(job.Failed, written)
		if err != nil {
			t.Fatalf("written as %s: %v", written, err)
		}
		rewritten, err := again.Encode()
		if diff := cmp.Diff(string(written), string(rewritten)); err != nil || diff != "" {
			t.Fatalf("%s (%v)", diff, err)
		}
	})
}
