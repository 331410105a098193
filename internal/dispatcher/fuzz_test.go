package dispatcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// script reads decisions from the bytes that the fuzzer makes up; behind their end all are 0.
type script struct{ left []byte }

func (s *script) next(below int) int {
	if len(s.left) == 0 {
		return 0
	}
	b := int(s.left[0])
	s.left = s.left[1:]
	return b % below
}

// number is a possible number, or an impossible one.
func (s *script) number() int64 {
	return []int64{0, 1, 2, 3, -1, -9, 1 << 16, 1 << 40, -1 << 62, 1<<63 - 1}[s.next(10)]
}

func (s *script) name() string {
	return []string{"a", "b", "acme", "me", "", "a.b", "*", "x y", "gpu=1", "job"}[s.next(10)]
}

func (s *script) time() string {
	return []string{
		noon.Format(time.RFC3339), noon.Add(-time.Hour).Format(time.RFC3339), noon.Add(24 * time.Hour).Format(time.RFC3339),
		"0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "never",
	}[s.next(6)]
}

// odd is the value of some key, valid, odd, or no JSON at all.
func (s *script) odd(t *testing.T) []byte {
	t.Helper()
	hash := string(hashOf(t, s.next(3)))
	switch s.next(9) {
	case 0:
		return nil
	case 1:
		return []byte{0xff, 0, '{'}
	case 2:
		running := ""
		if s.next(2) == 1 {
			running = fmt.Sprintf(`"running":[{"tenant":%q,"job":%q,"priority":%d,"hash":%q,"attempt":%d,"since":%q}],`, s.name(), s.name(), s.number(), hash, s.number(), s.time())
		}
		return fmt.Appendf(nil, `{"host":%q,"instance":%q,"serial":%d,"state":%q,"slots":%d,"prefetch":%d,%s"foreign":%d,"memory":%d,"labels":[%q],"recent":[%q],"brief":%t,"time":%q}`,
			s.name(), s.name(), s.next(9), []string{"online", "draining", "unhealthy", "mood"}[s.next(4)], s.number(), s.number(), running, s.number(), s.number(), s.name(), hash, s.next(2) == 1, s.time())
	case 3:
		return fmt.Appendf(nil, `{"job":%q,"lease":%q,"size":%d,"attempt":%d,"only_hosts":[%q],"not_before":%q,"expires":%q,"received":%q}`,
			s.name(), s.name(), s.number(), s.number(), s.name(), s.time(), s.time(), s.time())
	case 4:
		return fmt.Appendf(nil, `{"host":%q,"hash":%q,"kind":%q,"tenants":[%q],"failures":%d,"level":%d,"size":%d,"until":%q}`,
			s.name(), hash, []string{"execution_error", "out_of_memory", "incapable", "mood"}[s.next(4)], s.name(), s.number(), s.number(), s.number(), s.time())
	case 5:
		return fmt.Appendf(nil, `{"weight":%d,"max_running":%d,"prefer":[%q],"exclude":[%q,%q]}`, s.number(), s.number(), s.name(), s.name(), s.name())
	case 6:
		return fmt.Appendf(nil, `[{"job":%q,"host":%q,"by":%q,"time":%q}]`, s.name(), s.name(), s.name(), s.time())
	case 7:
		return fmt.Appendf(nil, `{"tenants":{%q:%d},"common":%d,"level":%d,"size":%d,"open":{"until":%q}}`, s.name(), s.number(), s.number(), s.number(), s.number(), s.time())
	}
	return fmt.Appendf(nil, `{"dispatcher":%q,"started":%q,"waiting":%d,"clock_off":%q}`, s.name(), s.time(), s.number(), s.name())
}

func (s *script) key(t *testing.T) string {
	t.Helper()
	hash := string(hashOf(t, s.next(3)))
	switch s.next(4) {
	case 0:
		return s.name()
	case 1:
		return s.name() + "." + hash
	case 2:
		return fmt.Sprintf("%d.%s.%s.%d", s.number(), s.name(), hash, s.number())
	}
	return fmt.Sprintf("5.acme.%s.%d", hash, s.next(5))
}

// FuzzWhateverIsHeardTheBrainGoesOn gives a dispatcher changes of all buckets, states and events in any order. After them a job for
// a healthy host must run, and run only once.
func FuzzWhateverIsHeardTheBrainGoesOn(f *testing.F) {
	f.Add([]byte{})
	for n := range 40 {
		seed := make([]byte, 400)
		for i := range seed {
			seed[i] = byte(n*31 + i*i*7 + i*n)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inBubble(t, func(s *scene) {
			t := s.t
			s.dispatcher(dispatcher.Config{})
			play(t, s, &script{data})
			for name, b := range s.buckets { // the operator clears it all away
				for key := range b.keys {
					if name != names.DispatchersBucket || key != "me" {
						s.set(name, key, nil, -1)
					}
				}
			}
			s.host("well", s.accepts("well"))
			s.submit("last", func(spec *job.Spec) { spec.Workflow, spec.OnlyHosts = graph(7), []string{"well"} })
			s.pass(time.Minute)
			s.mu.Lock()
			defer s.mu.Unlock()
			started := 0
			for _, link := range s.chain("acme", "last") {
				if link.EventKind == job.Started {
					started++
				}
			}
			if started != 1 {
				t.Errorf("a job on a host that is well was started %d times", started)
			}
		})
	})
}

// play gives the dispatcher what the script has.
func play(t *testing.T, s *scene, script *script) {
	t.Helper()
	buckets := []string{
		names.HostsBucket, names.WaitingBucket, names.BlocksBucket, names.StrikesBucket, names.TenantsBucket, names.AffinityBucket,
		names.SlotsBucket, names.CapabilitiesBucket, names.DispatchersBucket,
	}
	for len(script.left) > 0 {
		switch script.next(8) {
		case 0, 1, 2, 3:
			s.set(buckets[script.next(len(buckets))], script.key(t), script.odd(t), -1)
		case 4:
			var state queue.HostState
			if json.Unmarshal(script.odd(t), &state) == nil {
				if script.next(2) == 1 {
					state.Ended = &queue.EndedJob{Tenant: job.Tenant(script.name()), Job: job.ID(script.name()), Priority: job.Priority(script.number()), RanFor: job.Duration(script.number())}
				}
				s.broadcast(state)
			}
		case 5:
			s.submit(job.ID([]string{"a", "b", "job"}[script.next(3)]), func(spec *job.Spec) {
				spec.Workflow = graph(script.next(3))
				spec.ExpiresIn = job.Duration(script.next(3)) * job.Duration(time.Second)
			})
		case 6:
			kind := job.EventKinds()[script.next(8)]
			e := job.Event{EventKind: kind, Job: job.ID(script.name()), Tenant: "acme", Time: s.Now(), Sequence: uint64(script.next(6)), Attempt: int(script.number()), Host: script.name()}
			s.mu.Lock()
			chain := s.chain("acme", e.Job)
			s.mu.Unlock()
			last := uint64(0)
			if n := len(chain); n > 0 {
				last = chain[n-1].ChainSequence
			}
			if _, err := s.Append(context.Background(), &e, last, "", "lease"); err != nil {
				t.Log(err)
			}
		case 7:
			s.pass(time.Duration(script.next(100)) * 100 * time.Millisecond)
		}
	}
	s.pass(time.Second)
}
