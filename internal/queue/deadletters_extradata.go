package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// ErrExtraData: the job had an extra_data with a secret, which its dead letter does not keep.
var ErrExtraData = errors.New("its extra_data is needed again")

// memberList are the names of the members of an extra_data in the header of a letter: some, without what no name has.
func memberList(members []string) string {
	const most, longest = 16, 64
	names := make([]string, 0, len(members))
	for _, name := range members {
		names = append(names, strings.Map(func(r rune) rune {
			if r <= ' ' || r >= 0x7f || r == ',' {
				return '_'
			}
			return r
		}, cut(name, longest)))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return strings.Join(names[:min(most, len(names))], ",")
}

// ExtraData are the names of the members of the extra_data that the job had; its letter does not keep their values.
func (d *DeadLetter) ExtraData() []string {
	text := d.Header.Get(names.ExtraDataHeader)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// NeedsExtraData reports whether the job had an extra_data without which it may not do the same again.
func (d *DeadLetter) NeedsExtraData() bool {
	return slices.ContainsFunc(d.ExtraData(), func(member string) bool { return !job.PublicExtraData(member) })
}

func (d *DeadLetter) withExtraData(extra json.RawMessage) ([]byte, error) {
	var members map[string]json.RawMessage
	switch had := len(d.ExtraData()) > 0; {
	case len(extra) == 0 && d.NeedsExtraData():
		return nil, fmt.Errorf("requeue job %s: %w: it had %s, and letters do not keep them; give extra_data again, or {} to run without",
			d.Job, ErrExtraData, strings.Join(d.ExtraData(), ", "))
	case len(extra) == 0 || !had:
		return d.Body, nil
	}
	if err := json.Unmarshal(extra, &members); err != nil || members == nil {
		return nil, fmt.Errorf("requeue job %s: extra_data must be a JSON object", d.Job)
	}
	return job.WithExtraData(d.Body, extra), nil
}
