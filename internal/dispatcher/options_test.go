package dispatcher_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAHostThatLacksAnOptionIsAvoidedAndWhySaysSo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		flow := json.RawMessage(`{"1":{"class_type":"KSampler","inputs":{"sampler_name":"rare"}},"9":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`)
		s.canChoose("a", "usual")
		s.canChoose("b", "usual", "rare")
		for _, host := range []string{"a", "b"} {
			s.host(host, s.accepts(host))
		}
		s.pass(time.Second)
		s.submit("x", func(spec *job.Spec) { spec.Workflow = flow })
		s.pass(time.Second)
		s.want("offers", s.done("offer"), []string{"offer x to b"})
		answer := operator[jetstream.WhyAnswer](s, "why", jetstream.WhyRequest{Workflow: flow})
		for _, v := range answer.Hosts {
			if v.Host == "a" && (!strings.HasPrefix(v.Text, "avoided, since other hosts have it: ") || !strings.Contains(v.Text, "rare")) {
				t.Errorf("why: %+v", v)
			}
		}
		s.want("hosts", len(answer.Hosts), 2)
	})
}
