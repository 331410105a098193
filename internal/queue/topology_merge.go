package queue

import (
	"reflect"
	"slices"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// merge gives the settings of an existing stream with these changes: those that the Config sets, limits that the stream lacks, and
// those that protect tenants and hosts from one another.
func (t topology) merge(found *natsjs.StreamInfo, want wanted) (natsjs.StreamConfig, bool) {
	have := found.Config
	merged := have
	if t.cfg.Replicas != 0 {
		merged.Replicas = t.cfg.Replicas
	}
	if want.Compression == natsjs.S2Compression {
		merged.Compression = natsjs.S2Compression
	}
	if want.age {
		merged.MaxAge = want.MaxAge
	}
	if merged.MaxAge > 0 {
		merged.Duplicates = min(merged.Duplicates, merged.MaxAge)
	}
	limit(&merged, found.State.Bytes, want)
	switch want.Name {
	case names.JobsStream:
		t.mergeJobs(&merged, want)
	case names.EventsStream:
		merged.Subjects, merged.SubjectTransform, merged.RePublish = want.Subjects, want.SubjectTransform, want.RePublish
	case names.DeadStream:
		if have.MaxMsgsPerSubject <= 0 {
			merged.MaxMsgsPerSubject = want.MaxMsgsPerSubject
		}
	case names.LiveStream:
	default:
		if !want.AllowRollup {
			merged.AllowRollup, merged.SubjectDeleteMarkerTTL = false, 0
		}
	}
	return merged, !reflect.DeepEqual(merged, have)
}

func (t topology) mergeJobs(merged *natsjs.StreamConfig, want wanted) {
	if t.cfg.LaneCap != 0 {
		merged.MaxMsgsPerSubject = int64(t.cfg.LaneCap)
	}
	if t.cfg.MaxJob != 0 || merged.MaxMsgSize <= 0 {
		merged.MaxMsgSize = want.MaxMsgSize
	}
	closes := func(s *natsjs.StreamSource) bool { return s.Name == names.JobsStream }
	if !slices.ContainsFunc(merged.Sources, closes) {
		merged.Sources = append(slices.Clip(merged.Sources), want.Sources...)
	}
	merged.Duplicates = 0
}

// limit gives a maximum to a stream that has none, or replaces it when the Config sets one. The maximum is always larger than the
// content.
func limit(merged *natsjs.StreamConfig, held uint64, want wanted) {
	none := merged.MaxBytes <= 0
	if want.MaxBytes <= 0 || !none && !want.bytes {
		return
	}
	merged.MaxBytes = max(want.MaxBytes, int64(held+held/4))
	if none {
		merged.Discard = want.Discard
	}
}
