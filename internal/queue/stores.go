package queue

import (
	"context"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Stores says how full each stream, bucket and object store of the fleet is, by name.
func (q *Queue) Stores(ctx context.Context) ([]StoreCounts, error) {
	var list []StoreCounts
	all := q.js.ListStreams(ctx)
	for info := range all.Info() {
		name := names.PlainName(info.Config.Name)
		if !strings.HasPrefix(name, names.StreamsPrefix) {
			continue
		}
		list = append(list, StoreCounts{
			Stream: name, Bytes: int64(info.State.Bytes), Limit: max(info.Config.MaxBytes, 0), Messages: info.State.Msgs,
		})
	}
	slices.SortFunc(list, func(a, b StoreCounts) int { return strings.Compare(a.Stream, b.Stream) })
	return list, wrap(all.Err(), "list the streams")
}

// LastLetter is the sequence of the newest letter that COMFY_DEAD has ever stored.
func (q *Queue) LastLetter(ctx context.Context) (uint64, error) {
	info, err := q.streamState(ctx, names.DeadStream)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// Waits is how many of the tenant's jobs wait, for whatever reason.
func (t *TenantCounts) Waits() int {
	n := 0
	for _, some := range t.Waiting {
		n += some
	}
	return n
}
