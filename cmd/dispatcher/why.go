package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// whyCmd asks the dispatchers for their reasons.
type whyCmd struct {
	tenantFlags
	What string `arg:"" name:"job|file" help:"Id of a job (or tenant/id), or a file with a workflow: - or a name with a dot."`
	JSON bool   `help:"Print the answer as JSON."`
}

// Help is shown after the flags.
func (*whyCmd) Help() string {
	return `Examples:
  dispatcher why order-17 --tenant acme
  dispatcher why workflow_api.json
  dispatcher why workflow_api.json --json | jq -r '.hosts[] | select(.eligible) | .host'`
}

// Run prints the answer for every host.
func (w *whyCmd) Run(ctx context.Context, c *daemon.Console) error {
	tenant, request, err := w.request(c)
	if err != nil {
		return err
	}
	a, err := w.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	answer, now, err := a.why(ctx, tenant, request)
	if err != nil {
		return err
	}
	if w.JSON {
		return c.JSON(answer)
	}
	return tellWhy(c, &answer, now)
}

// why asks about a job or workflow and gives the verdicts of all hosts. Operators also get what is wrong with a host; a tenant
// gets only what concerns its own jobs.
func (a *asker) why(ctx context.Context, tenant job.Tenant, request jetstream.WhyRequest) (all jetstream.WhyAnswer, now time.Time, err error) {
	client := a.of(tenant)
	clock := client.Now
	ask := func() (jetstream.WhyAnswer, error) { return client.Why(ctx, request) }
	if !a.own {
		q, err := a.queue(ctx)
		if err != nil {
			return all, now, err
		}
		request.Tenant, clock = tenant, q.Now
		ask = asking[jetstream.WhyAnswer](ctx, q, "why", &request)
	}
	err = eachPage(ask, func(page *jetstream.WhyAnswer) bool {
		hosts := append(all.Hosts, page.Hosts...)
		if request.After == "" { // what is not about hosts is the same on every page
			all = *page
		}
		all.Hosts, all.Next = hosts, ""
		return following(&request.After, page.Next)
	})
	return all, clock(), err
}

func (w *whyCmd) request(c *daemon.Console) (job.Tenant, jetstream.WhyRequest, error) {
	var request jetstream.WhyRequest
	if w.What != "-" && !strings.Contains(w.What, ".") {
		ref, err := w.ref(w.What)
		request.Job = ref.id
		return ref.tenant, request, err
	}
	tenant, err := w.whose()
	if err != nil {
		return tenant, request, err
	}
	body, err := readFile(c, w.What)
	if err != nil {
		return tenant, request, err
	}
	plain := jobFlags{}
	spec, err := plain.spec(body, tenant)
	if err != nil {
		return tenant, request, fmt.Errorf("%s: %w", w.What, err)
	}
	request.Workflow, err = json.Marshal(spec)
	return tenant, request, err
}

func tellWhy(c *daemon.Console, a *jetstream.WhyAnswer, now time.Time) error {
	text := cmp.Or(noHostAccepts(a.Hosts), a.Text)
	if a.State.Terminal() || a.State == job.Started {
		text = a.Text
	}
	if a.Job != "" {
		text = fmt.Sprintf("job %s, %s: %s", a.Job, a.State, text)
	}
	if a.Until != nil && a.Until.After(now) {
		text += ", for " + daemon.Span(a.Until.Sub(now))
	}
	if a.Position > 0 {
		text += fmt.Sprintf("; place %d of %d", a.Position, a.Of)
	}
	if a.ETA != nil && (a.Reason == "" || a.Until != nil) { // otherwise the reason has no known end
		text += "; about to start " + daemon.In(*a.ETA, now)
	}
	c.Print("%s", text)
	if len(a.Hosts) == 0 {
		if a.State == "" || !a.State.Terminal() && a.State != job.Started {
			c.Say("no host is known; start an agent with `COMFY_HOSTS=http://127.0.0.1:8188 agent`")
		}
		return nil
	}
	rows := [][]string{{"HOST", "MAY", "WHY"}}
	for i := range a.Hosts {
		may := "no"
		if a.Hosts[i].Eligible {
			may = "yes"
		}
		rows = append(rows, []string{string(a.Hosts[i].Host), may, daemon.FirstLine(a.Hosts[i].Text)})
	}
	return c.Table(rows)
}

// noHostAccepts says why no host at all accepts jobs, and what to do; empty when one of them does.
func noHostAccepts(hosts []route.HostVerdict) string {
	by := map[route.Code][]string{}
	for i := range hosts {
		v := &hosts[i]
		if v.Code != route.CodeOffline && v.Code != route.CodeDrain && v.Code != route.CodeSick {
			return ""
		}
		by[v.Code] = append(by[v.Code], string(v.Host))
	}
	var parts []string
	add := func(code route.Code, what, hint string) {
		if names := by[code]; len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s)", daemon.Listed(names), what, hint))
		}
	}
	add(route.CodeDrain, "drained", "`dispatcher hosts resume` ends that")
	add(route.CodeSick, "unhealthy", "`dispatcher hosts` says what is wrong and what to do")
	add(route.CodeOffline, "offline", "its agent does not run, or cannot reach NATS")
	if len(parts) == 0 {
		return ""
	}
	return "no host takes jobs now: " + strings.Join(parts, "; ")
}
