package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// promptIDs gives prompts their ids in ComfyUI. Whoever knows the id of a prompt can name its files, so nobody can
// guess one: it is made with the fleet's secret. The same attempt always has the same id, so that a prompt is found
// again after a lost answer and by the next agent.
type promptIDs struct{ secret []byte }

// readSecret tries until NATS has answered and the secret is there; an error says that stop or kill has ended.
func (a *Agent) readSecret(stop, kill context.Context) (promptIDs, error) {
	ctx, cancel := context.WithCancel(kill)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	for wait := appendPause; ; wait = min(2*wait, maxAppendPause) {
		once, cancel := context.WithTimeout(ctx, wireTimeout)
		secret, err := a.q.Secret(once, queue.PromptSecret)
		cancel()
		if err == nil {
			return promptIDs{secret}, nil
		}
		if ctx.Err() == nil {
			a.cfg.Logger.Warn("cannot read the secret that prompt ids are made of; trying again", "error", err, "in", wait)
		}
		if !queue.Pause(ctx, wait) {
			return promptIDs{}, fmt.Errorf("read the secret of prompt ids: %w", ctx.Err())
		}
	}
}

// of is the id of an offered attempt, a lower-case UUID. The stream's creation belongs to the stream sequence: a ComfyUI
// that outlives a stream made anew must not answer with an old prompt of the same number.
func (p promptIDs) of(o *queue.Offer, streamCreated time.Time) string {
	mac := hmac.New(sha256.New, p.secret)
	mac.Write(attemptName(make([]byte, 0, 256), o, streamCreated))
	return uuidOf(mac.Sum(nil), 8)
}

// formerSpace is the namespace of former prompt ids.
var formerSpace = uuid.MustParse("5b0f4c3e-7d0a-5f64-9a52-1f1c0e8f6d3b")

// formerPromptID is the id that an agent without a secret has given to an attempt; its prompts may still run.
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

// resumed is the id of a prompt that an agent before this one has submitted: the chain says which, and one that is
// neither of the two that it can be was not submitted for this attempt.
func (h *host) resumed(ctx context.Context, o *queue.Offer) string {
	id := h.prompts.of(o, h.q.Created())
	former := formerPromptID(o, h.q.Created())
	if link, _, err := h.q.Last(ctx, keyOf(o).tenant, o.Job); err == nil && link.PromptID == former {
		return former
	}
	return id
}
