package dispatcher

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

const byMost = 64 // characters of who asks for something

// cleanBy is who asks as it may stand in events and on terminals: printable, on one line, not long.
func cleanBy(by string) string {
	by = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, by))
	if text := []rune(by); len(text) > byMost {
		by = string(text[:byMost])
	}
	return by
}

// operatorBy is who asks on comfy.api.
func operatorBy(by string) string { return cmp.Or(cleanBy(by), "api") }

// tenantBy is who asks on comfy.tenants.<tenant>: the tenant, as NATS has let it use its subject, and what it says of itself.
func tenantBy(tenant job.Tenant, by string) string {
	text := "tenant " + string(tenant)
	if by = cleanBy(by); by != "" {
		text += ": " + by
	}
	return text
}

// actTime is how long an act may take to be stored.
const actTime = 5 * time.Second

// tell stores who has changed what. A request that has changed nothing is none, and one of which nobody knows is.
// It is told after it was done: a dispatcher that dies between both leaves it untold.
func (d *Dispatcher) tell(ctx context.Context, a jetstream.Act, request any, failed error) {
	if a.Count == 0 && (failed == nil || jetstream.Refused(failed)) {
		return
	}
	if failed != nil {
		a.Error = failed.Error()
	}
	var err error
	if a.Request, err = json.Marshal(request); err == nil {
		a.Time = d.clock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actTime)
		defer cancel()
		err = d.q.AppendAct(ctx, &a, d.source)
	}
	if err != nil {
		d.log.Warn("who has changed something could not be stored", "call", a.Call, "by", a.By, "tenant", a.Tenant, "count", a.Count, "error", err)
	}
}
