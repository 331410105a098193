package dispatcher

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const byMost = 64 // longest name of a caller, in characters

// callerName gives a caller's name in a form that may be in events and on terminals: printable, on one line, not long.
func callerName(by string) string {
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

// operatorBy names the caller of a call on comfy.api. It never begins with the word "tenant", by which a tenant's own call is recognized.
func operatorBy(by string) string {
	by = cmp.Or(callerName(by), "api")
	if len(by) >= len(tenantWord) && strings.EqualFold(by[:len(tenantWord)], tenantWord) {
		by = "operator: " + by
	}
	return by
}

const tenantWord = "tenant"

// tenantBy names the caller of a call on comfy.tenants.<tenant>: the tenant, whose right to this subject NATS has checked, and the
// name that the caller gives.
func tenantBy(tenant job.Tenant, by string) string {
	text := tenantWord + " " + string(tenant)
	if by = callerName(by); by != "" {
		text += ": " + by
	}
	return text
}

// auditTime is how long a record may take to be stored.
const auditTime = 5 * time.Second

// audit stores who has changed what. A request that was refused, or has changed nothing, is left out; one that failed for
// another reason may have changed something, and is stored. It is stored after the change: a dispatcher that dies
// between the two leaves it out. A call that changes many things uses a bulkAudit instead.
func (d *Dispatcher) audit(ctx context.Context, a queue.AuditRecord, request any, failed error) {
	if a.Count == 0 && (failed == nil || jetstream.Refused(failed)) {
		return
	}
	d.auditAlways(ctx, a, request, failed)
}

// auditAlways stores the audit record whatever came of the call.
func (d *Dispatcher) auditAlways(ctx context.Context, a queue.AuditRecord, request any, failed error) {
	if failed != nil {
		a.Error = failed.Error()
	}
	if err := d.storeAudit(context.WithoutCancel(ctx), a, request); err != nil {
		d.log.Warn("the record of a change could not be stored", "call", a.Call, "by", a.By, "tenant", a.Tenant, "count", a.Count, "error", err)
	}
}

func (d *Dispatcher) storeAudit(ctx context.Context, a queue.AuditRecord, request any) (err error) {
	if a.Request, err = json.Marshal(request); err != nil {
		return err
	}
	a.Time = d.clock()
	ctx, cancel := context.WithTimeout(ctx, auditTime)
	defer cancel()
	return d.q.AppendAudit(ctx, &a, d.source)
}

// bulkAudit is the record of a call that changes many things. It is stored twice: before the first change, so that it is known who asked
// for what when a dispatcher dies meanwhile, and at its end with the count. When the first cannot be stored nothing is
// changed.
type bulkAudit struct {
	d       *Dispatcher
	record  queue.AuditRecord
	request any

	mu    sync.Mutex // guards begun
	begun bool
}

// begin is called before each change, by any goroutine.
func (a *bulkAudit) begin(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begun {
		return nil
	}
	record := a.record
	record.Begins = true
	if err := a.d.storeAudit(ctx, record, a.request); err != nil {
		return fmt.Errorf("nothing was changed, since it could not be stored who asks for it: %w", err)
	}
	a.begun = true
	return nil
}

func (a *bulkAudit) hasBegun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.begun
}

// end stores how many things were changed by a call whose record has begun.
func (a *bulkAudit) end(ctx context.Context, count int, failed error) {
	if !a.hasBegun() {
		return
	}
	a.record.Count = count
	a.d.auditAlways(ctx, a.record, a.request, failed)
}
