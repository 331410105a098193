package job

import (
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Query says which rows are wanted. Empty fields match every row.
type Query struct {
	Tenant Tenant
	State  EventKind
	Hash   workflow.Hash // or its first digits
	Host   string
	Kind   failure.Kind
	Reason string
	Job    ID     // or its first letters
	Text   string // a part of its name or metadata, whatever its case
	Before uint64 // only rows whose last event is older than this one
	Limit  int    // rows of the page, at least one
	Look   int    // places to look at, at least one; a page may be short for it
}

// Page is some rows, newest first.
type Page struct {
	Rows []Row
	Next uint64 // where to go on, as Before; 0: this was all
}

// Page answers a query. It looks at no more than q.Look places, so that a query that few rows match takes no longer than
// others: the page is short then, or empty, and Next says where to go on.
func (f *Fold) Page(q *Query) Page {
	w, possible := f.wanted(q)
	if !possible {
		return Page{}
	}
	i := w.order.len()
	if q.Before > 0 {
		i = w.order.before(q.Before)
	}
	var p Page
	for looked := 0; i > w.order.head; looked++ {
		if len(p.Rows) == max(q.Limit, 1) || looked == max(q.Look, 1) {
			p.Next = w.order.sequence(i)
			break
		}
		i--
		if at, found := w.order.at(f.rows, i); found && w.fits(f, at) {
			p.Rows = append(p.Rows, f.row(at))
		}
	}
	return p
}

// wanted is a query with the fold's numbers in place of names.
type wanted struct {
	order              *rowOrder
	state              uint8
	host, kind, reason uint32
	any                struct{ state, host, kind, reason bool }
	hash, id, text     string
}

// wanted gives false when no row can match.
func (f *Fold) wanted(q *Query) (w wanted, possible bool) {
	w = wanted{order: &f.order, hash: string(q.Hash), id: string(q.Job), text: strings.ToLower(q.Text)}
	if q.Tenant != "" {
		t := f.tenant(q.Tenant)
		if t == nil {
			return wanted{}, false
		}
		w.order = &t.order
	}
	counts := f.Counts(q.Tenant)
	if w.any.state = q.State == ""; !w.any.state && counts.Of(q.State) == 0 {
		return wanted{}, false
	}
	w.state, _ = stateNumber(q.State)
	for _, name := range []struct {
		name   string
		number *uint32
		any    *bool
	}{{q.Host, &w.host, &w.any.host}, {string(q.Kind), &w.kind, &w.any.kind}, {q.Reason, &w.reason, &w.any.reason}} {
		if *name.any = name.name == ""; *name.any {
			continue
		}
		n, known := f.names.number(name.name)
		if !known {
			return wanted{}, false
		}
		*name.number = n
	}
	return w, true
}

func (w *wanted) fits(f *Fold, at uint32) bool {
	r := &f.rows[at]
	return (w.any.state || r.state == w.state) && (w.any.host || r.host == w.host) && (w.any.kind || r.kind == w.kind) &&
		(w.any.reason || r.reason == w.reason) && strings.HasPrefix(string(r.id), w.id) && strings.HasPrefix(f.names.text(r.hash), w.hash) &&
		(w.text == "" || f.texts.fits(at, w.text))
}
