package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Offer asks a host to run a job. Once the agent has accepted it, the agent owns the lease.
type Offer struct {
	Message       job.Message // the job as it was published
	Job           job.ID
	Hash          workflow.Hash
	Attempt       int
	Resume        bool // according to the chain this host runs this attempt already
	Lease         Lease
	AckWait       time.Duration
	LastInChain   uint64
	StreamCreated time.Time

	// Quiet is for how long the agent need not broadcast that the slot is taken, at most 1 min; 0: it broadcasts at once. Most hosts
	// have another change to broadcast by then, which saves one message.
	Quiet time.Duration

	// FreeSlot: the job is meant for a free slot, and a host without one answers busy, even if it could prefetch the job. In a
	// large fleet two dispatchers may choose the same free host at once although other hosts are free, and the busy answer lets the
	// second choose another.
	FreeSlot bool
}

// Answer to an offer.
type Answer string

const (
	Accepted Answer = "accepted"
	Busy     Answer = "busy"
	Drain    Answer = "draining"
	Unfit    Answer = "unfit"
	NotThere Answer = "gone" // only to a resume: ComfyUI does not have the job's prompt
)

// Answers lists the closed set.
func Answers() []Answer { return []Answer{Accepted, Busy, Drain, Unfit, NotThere} }

// Reply is an answer with the host's state at that moment.
type Reply struct {
	Answer Answer    `json:"answer"`
	Reason string    `json:"reason,omitempty"`
	State  HostState `json:"state"`
}

// ErrNoAnswer: no valid answer came in time. The agent may have accepted the job, so the dispatcher must not offer it again before
// the lease has run out.
var ErrNoAnswer = errors.New("the agent did not answer")

// ErrNoAgent: no agent has subscribed to the host's offers, so the offer was not accepted.
var ErrNoAgent = errors.New("no agent serves this host")

// stateSize is about the size in bytes of a brief state with two jobs in JSON.
const stateSize = 768

const offerTimeout = 2 * time.Second

// Offer sends o to a host and waits up to 2 s for the answer.
func (q *Queue) Offer(ctx context.Context, host string, o *Offer) (Reply, error) {
	answer, err := q.calls.ask(ctx, encodeOffer(host, o), offerTimeout)
	if errors.Is(err, nats.ErrNoResponders) {
		return Reply{}, fmt.Errorf("offer job %s to host %s: %w", o.Job, host, ErrNoAgent)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("offer job %s to host %s: %w: %w", o.Job, host, ErrNoAnswer, err)
	}
	r, err := decodeReply(answer.Data)
	if err == nil && r.State.Host != "" && r.State.Host != host {
		err = fmt.Errorf("the answer has the state of another host, %.80q", r.State.Host)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("offer job %s to host %s: %w: %w", o.Job, host, ErrNoAnswer, err)
	}
	return r, nil
}

func encodeOffer(host string, o *Offer) *nats.Msg {
	m, t := &o.Message, textsOf(128)
	header := headerOf(
		names.JobIDHeader, string(o.Job),
		names.TenantHeader, m.Tenant,
		names.PriorityHeader, strconv.Itoa(int(m.Priority)),
		names.HashHeader, string(o.Hash),
		names.AttemptHeader, strconv.Itoa(o.Attempt),
		names.ResumeHeader, strconv.FormatBool(o.Resume),
		names.LeaseHeader, string(o.Lease),
		names.AckWaitHeader, o.AckWait.String(),
		names.LastSequenceHeader, t.number(o.LastInChain),
		names.SequenceHeader, t.number(m.Sequence),
		names.ReceivedHeader, t.time(m.Received),
	)
	if m.RequeueOf != "" {
		header[names.RequeueOfHeader] = []string{m.RequeueOf}
	}
	if m.Traceparent != "" {
		header[names.TraceparentHeader] = []string{m.Traceparent}
	}
	if o.Quiet > 0 {
		header[names.QuietHeader] = []string{o.Quiet.String()}
	}
	if o.FreeSlot {
		header[names.FreeSlotHeader] = []string{"true"}
	}
	return &nats.Msg{Subject: names.OfferSubject(host), Data: m.Body, Header: header}
}

func decodeOffer(msg *nats.Msg) (Offer, error) {
	h := msg.Header
	lease, err := parseLease(msg)
	if err != nil {
		return Offer{}, err
	}
	ackWait, err := time.ParseDuration(h.Get(names.AckWaitHeader))
	if err != nil {
		return Offer{}, fmt.Errorf("offer without a valid %s: %w", names.AckWaitHeader, err)
	}
	received, err := time.Parse(time.RFC3339Nano, h.Get(names.ReceivedHeader))
	if err != nil {
		return Offer{}, fmt.Errorf("offer without a valid %s: %w", names.ReceivedHeader, err)
	}
	quiet, err := time.ParseDuration(h.Get(names.QuietHeader))
	if err != nil {
		quiet = 0 // the header is missing or not valid
	}
	priority, err := strconv.Atoi(h.Get(names.PriorityHeader))
	if err != nil {
		return Offer{}, fmt.Errorf("offer without a valid %s: %w", names.PriorityHeader, err)
	}
	o := Offer{
		Quiet: min(max(quiet, 0), longestQuiet), FreeSlot: h.Get(names.FreeSlotHeader) == "true",
		Message: job.Message{
			Tenant: h.Get(names.TenantHeader), Priority: job.Priority(priority),
			Sequence: headerUint(h, names.SequenceHeader), Received: received, RequeueOf: h.Get(names.RequeueOfHeader), Traceparent: names.Traceparent(h), Body: msg.Data,
		},
		Job: job.ID(h.Get(names.JobIDHeader)), Hash: workflow.Hash(h.Get(names.HashHeader)), Attempt: headerInt(h, names.AttemptHeader),
		Resume: h.Get(names.ResumeHeader) == "true", Lease: lease, AckWait: ackWait, LastInChain: headerUint(h, names.LastSequenceHeader),
	}
	return o, o.check()
}

// The shortest and longest life of a lease, and how long a taken slot may be kept from other dispatchers.
const (
	shortestAckWait, longestAckWait = time.Second, time.Hour
	longestQuiet                    = time.Minute
)

// ServeOffers calls answer for every offer to a host, one after the other, until ctx ends. It calls ready once, when the server has
// the subscription: an agent that writes its host's presence after that misses no offer. answer must not block: it decides about a
// slot and calls reply, once, within the 2 s that the dispatcher waits. Without a reply the job is delivered again when its lease
// runs out. An offer that cannot be decoded is answered with Unfit.
func (q *Queue) ServeOffers(ctx context.Context, host string, ready func(), answer func(o Offer, reply func(Reply))) error {
	return q.serveWhenReady(ctx, names.OfferSubject(host), ready, func(msg *nats.Msg) {
		o, err := decodeOffer(msg)
		if err != nil {
			respond(msg, &Reply{Answer: Unfit, Reason: err.Error()})
			return
		}
		answer(o, func(r Reply) {
			r.State = r.State.Abridged()
			respond(msg, &r)
		})
	})
}

// Control asks an agent for something else than running a job.
type Control struct {
	Drain  bool   `json:"drain,omitempty"`
	Resume bool   `json:"resume,omitempty"`
	By     string `json:"by,omitempty"` // who asks
}

// Control sends c to a host's agent and gives its answer, for which it waits 2 s: the host's state afterwards and, when that is not
// what c asked for, the reason. ErrNoAgent when no agent serves the host.
func (q *Queue) Control(ctx context.Context, host string, c Control) (Reply, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return Reply{}, fmt.Errorf("encode control of host %s: %w", host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	answer, err := q.nc.RequestWithContext(ctx, names.ControlSubject(host), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return Reply{}, fmt.Errorf("control host %s: %w", host, ErrNoAgent)
	}
	if err != nil {
		return Reply{}, wrap(err, "control host %s", host)
	}
	r, err := decodeReply(answer.Data)
	return r, wrap(err, "read the answer to a control of host %s", host)
}

// ServeControl calls obey for every control of a host, one after the other, until ctx ends, and answers what it returns, for which
// the sender waits 2 s. It calls ready once, when the server has the subscription.
func (q *Queue) ServeControl(ctx context.Context, host string, ready func(), obey func(Control) Reply) error {
	return q.serveWhenReady(ctx, names.ControlSubject(host), ready, func(msg *nats.Msg) {
		c, err := decodeChecked[Control](msg.Data)
		if err != nil {
			respond(msg, &Reply{Answer: Unfit, Reason: err.Error()})
			return
		}
		r := obey(c)
		r.State = r.State.Abridged()
		respond(msg, &r)
	})
}

func (q *Queue) serve(ctx context.Context, subject string, handle func(*nats.Msg)) error {
	sub, err := q.listen(subject, handle)
	if err != nil {
		return err
	}
	return endWith(ctx, sub)
}

// serveWhenReady is serve that calls ready, once, when the server has the subscription.
func (q *Queue) serveWhenReady(ctx context.Context, subject string, ready func(), handle func(*nats.Msg)) error {
	sub, err := q.listen(subject, handle)
	if err != nil {
		return err
	}
	if q.flushed(ctx) {
		ready()
	}
	return endWith(ctx, sub)
}

// flushed waits until the server has all subscriptions; false means that ctx ended first.
func (q *Queue) flushed(ctx context.Context) bool {
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, answerTime)
		err := q.nc.FlushWithContext(once)
		cancel()
		if err == nil {
			return true
		}
		Pause(ctx, rewatchPause) // NATS is away
	}
	return false
}

func (q *Queue) listen(subject string, handle func(*nats.Msg)) (*nats.Subscription, error) {
	sub, err := q.nc.Subscribe(subject, handle)
	return sub, wrap(err, "subscribe to %s", subject)
}

// endWith waits until ctx ends, and then ends the subscription.
func endWith(ctx context.Context, sub *nats.Subscription) error {
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed already
	return ctx.Err()
}

// respond ignores an answer that cannot be sent: the sender of the request gets a timeout.
func respond(msg *nats.Msg, r *Reply) {
	_ = msg.Respond(r.appendJSON(make([]byte, 0, stateSize)))
}

// Broadcast sends the host's abridged state to every dispatcher. It is not stored; the next heartbeat repeats it.
func (q *Queue) Broadcast(s *HostState) error {
	brief := s.Abridged()
	body := brief.AppendJSON(make([]byte, 0, stateSize))
	if err := q.nc.Publish(names.StateSubject(s.Host), body); err != nil {
		return wrap(err, "broadcast state of host %s", s.Host)
	}
	return nil
}

// FollowHosts calls tell for every valid broadcast state until ctx ends.
func (q *Queue) FollowHosts(ctx context.Context, tell func(HostState)) error {
	return q.serve(ctx, names.HostStates, func(msg *nats.Msg) { tellState(msg, tell) })
}

func tellState(msg *nats.Msg, tell func(HostState)) {
	if s, err := decodeState(msg.Data); err == nil && s.Host == names.StateHost(msg.Subject) && s.check() == nil {
		tell(s)
	}
}
