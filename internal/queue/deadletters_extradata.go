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

// ErrExtraData: the job's extra_data held a key, which its dead letter does not keep. Requeue it with extra_data.
var ErrExtraData = errors.New("its extra_data is needed again")

// memberList has the names of an extra_data's members as a header: at most 16, cut to 64 bytes, with _ for characters that a header
// or the list cannot have.
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

// ExtraData has the names of the members of the job's extra_data; the letter does not keep their values.
func (d *DeadLetter) ExtraData() []string {
	text := d.Header.Get(names.ExtraDataHeader)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// NeedsExtraData reports whether the job's extra_data held a member that is not public, so that Requeue needs it again.
func (d *DeadLetter) NeedsExtraData() bool {
	return slices.ContainsFunc(d.ExtraData(), func(member string) bool { return !job.PublicExtraData(member) })
}

func (d *DeadLetter) withExtraData(extra json.RawMessage) ([]byte, error) {
	var members map[string]json.RawMessage
	switch had := len(d.ExtraData()) > 0; {
	case len(extra) == 0 && d.NeedsExtraData():
		return nil, fmt.Errorf("requeue job %s: %w: it had %s, which dead letters do not keep: give extra_data again, or {} to run the job without it",
			d.Job, ErrExtraData, strings.Join(d.ExtraData(), ", "))
	case len(extra) == 0 || !had:
		return d.Body, nil
	}
	if err := json.Unmarshal(extra, &members); err != nil || members == nil {
		return nil, fmt.Errorf("requeue job %s: extra_data must be a JSON object", d.Job)
	}
	return job.WithExtraData(d.Body, extra), nil
}
