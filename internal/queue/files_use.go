package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// What a tenant has in COMFY_INPUTS is counted without a look at any file: the subject of an upload's parts says whose it
// is and for how many KiB each part counts, and NATS knows how many messages a subject has. So parts of what was never
// finished, was replaced, removed or has become too old count exactly as long as they are stored.

const (
	// LeastFile is what a file counts for at least, so that a tenant cannot store very many small ones.
	LeastFile = 64 << 10
	// partExtra is what a part has beside its bytes at most: its headers, and a piece of what says that it is a file.
	partExtra = 2 << 10
)

// PartCounts is for how many bytes a part of an upload counts: those of the first piece, its headers, rounded up to KiB.
func PartCounts(first int) int64 { return (int64(max(first, 1)) + partExtra + 1<<10 - 1) >> 10 << 10 }

// PartsOf names the parts of a tenant's upload, as NewUpload takes it. No piece may be larger than the first one.
func PartsOf(tenant job.Tenant, first int, id string) string {
	return fmt.Sprintf("%s.%d.%s", tenant, PartCounts(first)>>10, id)
}

// InputsUse says who has how much in COMFY_INPUTS.
type InputsUse struct {
	Most    int64                // bytes that it holds at most; 0 is no maximum
	Bytes   int64                // that it holds, whosever they are
	Age     time.Duration        // after which files are removed; 0 is never
	Tenants map[job.Tenant]int64 // what parts named by PartsOf count for
}

// InputsUse counts what is stored at this moment.
func (q *Queue) InputsUse(ctx context.Context) (InputsUse, error) {
	use := InputsUse{Tenants: map[job.Tenant]int64{}}
	prefix := names.PartsSubject(names.InputsStore, "")
	for offset := 0; ; {
		page, err := q.storeInfo(ctx, names.InputsStore, prefix+"*.*.*", offset)
		if err != nil {
			return use, fmt.Errorf("count input files: %w", q.explainStore(ctx, names.InputsStore, err))
		}
		use.Most, use.Bytes, use.Age = max(0, page.Config.MaxBytes), page.State.Bytes, page.Config.MaxAge
		for subject, parts := range page.State.Subjects {
			use.add(strings.TrimPrefix(subject, prefix), parts)
		}
		offset += len(page.State.Subjects)
		if len(page.State.Subjects) == 0 || offset >= page.Total {
			return use, nil
		}
	}
}

// add counts an upload of which there are so many parts.
func (u *InputsUse) add(name string, parts uint64) {
	tenant, rest, _ := strings.Cut(name, ".")
	text, _, _ := strings.Cut(rest, ".")
	kib, err := strconv.ParseUint(text, 10, 32)
	if err != nil { // not written by a fleet
		return
	}
	u.Tenants[job.Tenant(tenant)] += max(LeastFile, int64(kib*parts)<<10)
}

// storeInfo is what NATS says of an object store and of how many messages subjects have.
type storeInfo struct {
	Error  *natsjs.APIError `json:"error"`
	Total  int              `json:"total"` // subjects, of which an answer has a page
	Config struct {
		MaxBytes int64         `json:"max_bytes"`
		MaxAge   time.Duration `json:"max_age"`
	} `json:"config"`
	State struct {
		Bytes    int64             `json:"bytes"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
}

func (q *Queue) storeInfo(ctx context.Context, store, subjects string, offset int) (storeInfo, error) {
	var answer storeInfo
	body := fmt.Appendf(nil, `{"subjects_filter":%q,"offset":%d}`, subjects, offset)
	msg, err := q.calls.ask(ctx, &nats.Msg{Subject: q.apiSubject("STREAM.INFO." + names.StoreStream(store)), Data: body}, storeTimeout)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return answer, fmt.Errorf("read what NATS says of it: %w", err)
	}
	if answer.Error != nil {
		return answer, answer.Error
	}
	return answer, nil
}
