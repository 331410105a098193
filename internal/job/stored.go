package job

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Limits that no event of this system exceeds.
const (
	mostAttempts = 1 << 12
	mostOutputs  = 1 << 16
	longestRun   = 100 * 365 * 24 * time.Hour
)

// DecodeStored reads an event that is stored for a job and may have been written by another program. named reports whether its
// body names the job and its tenant; otherwise it is no event of the job. An error says which value is impossible, and then e
// has only its kind, tenant and job.
func DecodeStored(tenant Tenant, id ID, kind EventKind, body []byte) (e Event, named bool, err error) {
	e, err = DecodeEvent(kind, body)
	named = e.Job == id && e.Tenant == tenant
	if err == nil {
		err = e.checkStored()
	}
	if err != nil {
		e = Event{EventKind: kind}
		named = namesIn(body, tenant, id)
	}
	e.Tenant, e.Job = tenant, id
	return e, named, err
}

// namesIn reports whether a body names a job and its tenant. It reads nothing else of the body.
func namesIn(body []byte, tenant Tenant, id ID) bool {
	var names struct {
		Job    ID     `json:"job"`
		Tenant Tenant `json:"tenant"`
	}
	return json.Unmarshal(body, &names) == nil && names.Job == id && names.Tenant == tenant
}

// checkStored refuses values, beside those that check refuses, that no fleet has.
func (e *Event) checkStored() error {
	switch {
	case e.Kind != "" && !e.Kind.Valid():
		return fmt.Errorf("the kind %.80q is unknown", e.Kind)
	case e.Position > math.MaxInt32 || e.Bytes > math.MaxInt32:
		return fmt.Errorf("position %d or bytes %d are out of range", e.Position, e.Bytes)
	case len(e.Attempts) > mostAttempts || len(e.AvoidedHosts) > mostAttempts || len(e.Outputs) > mostOutputs:
		return fmt.Errorf("it has %d attempts, %d avoided hosts and %d outputs", len(e.Attempts), len(e.AvoidedHosts), len(e.Outputs))
	}
	for _, d := range []Duration{e.NodeRan, e.QueuedFor, e.RanFor} {
		if time.Duration(d) > longestRun {
			return fmt.Errorf("a duration is %v", time.Duration(d))
		}
	}
	for _, at := range []*time.Time{&e.Time, e.Until, e.NotBefore, e.AvoidUntil} {
		if at != nil && !at.IsZero() && (at.Year() < 1970 || at.Year() >= 2300) {
			return fmt.Errorf("a time is %v", at)
		}
	}
	return nil
}
