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

// The bytes of a tenant in COMFY_INPUTS are counted without reading any file: the subject of an upload's parts names the tenant and
// for how many KiB each part counts, and NATS counts the messages of a subject. So the parts of uploads that were not finished, and of
// files that were replaced or removed, count exactly as long as they are stored.

const (
	// LeastFile is the least that a file counts for, in bytes, so that a tenant cannot fill NATS' memory with very many small files.
	LeastFile = 64 << 10
	// partExtra is the most that a part has beside its bytes: its headers, and its share of the description.
	partExtra = 2 << 10
)

// PartCounts is how many bytes each part of an upload counts for: the bytes of the first piece and its headers, rounded up to KiB.
func PartCounts(first int) int64 { return (int64(max(first, 1)) + partExtra + 1<<10 - 1) >> 10 << 10 }

// PartsOf names the parts of a tenant's upload, as NewUpload takes it. No piece may be larger than the first one.
func PartsOf(tenant job.Tenant, first int, id string) string {
	return fmt.Sprintf("%s.%d.%s", tenant, PartCounts(first)>>10, id)
}

// InputsUse is how much of COMFY_INPUTS is used, and by whom.
type InputsUse struct {
	Most    int64                // the most bytes that it may hold; 0: no maximum
	Bytes   int64                // bytes that it holds, of all tenants
	Age     time.Duration        // after which files are removed; 0: never
	Tenants map[job.Tenant]int64 // bytes that each tenant's uploads count for
}

// InputsUse counts what is stored in COMFY_INPUTS at this moment.
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

// add counts the parts of one upload.
func (u *InputsUse) add(name string, parts uint64) {
	tenant, rest, _ := strings.Cut(name, ".")
	text, _, _ := strings.Cut(rest, ".")
	kib, err := strconv.ParseUint(text, 10, 32)
	if err != nil { // another program has named these parts
		return
	}
	u.Tenants[job.Tenant(tenant)] += max(LeastFile, int64(kib*parts)<<10)
}

// storeInfo is NATS' answer about an object store and the number of messages of its subjects.
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
		return answer, fmt.Errorf("decode NATS' answer about the object store %s: %w", store, err)
	}
	if answer.Error != nil {
		return answer, answer.Error
	}
	return answer, nil
}
