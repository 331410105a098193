package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// promptIDs makes the ids of prompts in ComfyUI. With the id of a prompt its files can be named, so that ids are made with
// the fleet's secret and cannot be guessed. The same attempt always has the same id, so that its prompt is found again
// after a lost answer and by the next agent.
type promptIDs struct {
	mu  sync.Mutex // guards mac, which is used for one id after the other: to make one takes five allocations
	mac hash.Hash
}

func newPromptIDs(secret []byte) *promptIDs { return &promptIDs{mac: hmac.New(sha256.New, secret)} }

// readSecret tries until NATS has answered and the secret is there. An error means that stop or kill is done.
func (a *Agent) readSecret(stop, kill context.Context) (*promptIDs, error) {
	ctx, cancel := context.WithCancel(kill)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		once, cancel := context.WithTimeout(ctx, wireTimeout)
		secret, err := a.q.Secret(once, queue.PromptSecret)
		cancel()
		if err == nil {
			return newPromptIDs(secret), nil
		}
		if ctx.Err() == nil {
			a.cfg.Logger.Warn("cannot read the secret that prompt ids are made of; trying again", "error", err, "in", wait)
		}
		if !queue.Pause(ctx, wait) {
			return nil, fmt.Errorf("read the secret of prompt ids: %w", ctx.Err())
		}
	}
}

// of is the id of an offered attempt, a lower-case UUID. It depends on when the stream was created, since a new stream
// repeats the sequences of the old one, whose prompts ComfyUI may still have.
func (p *promptIDs) of(o *queue.Offer, streamCreated time.Time) string {
	name := attemptName(make([]byte, 0, 256), o, streamCreated)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mac.Reset()
	p.mac.Write(name)
	return uuidOf(p.mac.Sum(name[:0]), 8)
}

// formerSpace is the namespace of the ids that agents without a secret made.
var formerSpace = uuid.MustParse("5b0f4c3e-7d0a-5f64-9a52-1f1c0e8f6d3b")

// formerPromptID is the id that an agent of a version without a secret gave to an attempt. Its prompts may still run.
func formerPromptID(o *queue.Offer, streamCreated time.Time) string {
	sum := sha1.Sum(attemptName(append(make([]byte, 0, 256), formerSpace[:]...), o, streamCreated))
	return uuidOf(sum[:], 5)
}

func attemptName(name []byte, o *queue.Offer, streamCreated time.Time) []byte {
	name = append(append(name, o.Message.Tenant...), 0)
	name = append(append(name, o.Job...), 0)
	name = append(strconv.AppendInt(name, streamCreated.UnixNano(), 10), 0)
	name = append(strconv.AppendUint(name, o.Message.Sequence, 10), 0)
	return strconv.AppendInt(name, int64(o.Attempt), 10)
}

func uuidOf(sum []byte, version byte) string {
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | version<<4
	id[8] = id[8]&0x3f | 0x80 // of RFC 9562
	return id.String()
}

// resumed is the id of the prompt that an earlier agent has submitted for an attempt: the former one if the chain names it.
func (h *host) resumed(ctx context.Context, o *queue.Offer) string {
	id := h.prompts.of(o, h.q.Created())
	former := formerPromptID(o, h.q.Created())
	if link, _, err := h.q.Last(ctx, keyOf(o).tenant, o.Job); err == nil && link.PromptID == former {
		return former
	}
	return id
}
