package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Unblocked is the body of comfy.events.blocks.<host>.<hash>.unblocked; that of .blocked is the block itself.
type Unblocked struct {
	Host  string        `json:"host"`
	Hash  workflow.Hash `json:"hash"`
	Cause UnblockCause  `json:"cause"`
	Time  time.Time     `json:"time"`
}

// AnnounceBlocks turns each change of COMFY_BLOCKS into exactly one event blocked or unblocked, also changes
// that came while no dispatcher was up.
//
// All dispatchers share one durable consumer that hands out one change at a time, so events keep the order of
// the changes. Each event carries the change's revision and is appended by compare-and-set on the pair's last
// event; a change that comes again after a crash finds its own revision there and is dropped.
func (q *Queue) AnnounceBlocks(ctx context.Context, source string, failed func(error)) error {
	open := q.opening(names.BucketStream(names.BlocksBucket), natsjs.ConsumerConfig{
		Durable: names.AnnounceConsumer, FilterSubject: kvSubject(q.blocks, ">"), AckPolicy: natsjs.AckExplicitPolicy,
		AckWait: sharedAckWait, MaxDeliver: -1, MaxAckPending: 1,
	})
	return q.shared(ctx, open, 1, func(ctx context.Context, msg *nats.Msg) error {
		return q.announceBlock(ctx, msg, source)
	}, failed)
}

func (q *Queue) announceBlock(ctx context.Context, msg *nats.Msg, source string) error {
	key := strings.TrimPrefix(msg.Subject, kvSubject(q.blocks, ""))
	host, hash, ok := names.SplitPair(key)
	meta, err := msg.Metadata()
	if err != nil || !ok {
		return err // the key is not <host>.<hash>, so another program wrote it: there is nothing to announce
	}
	c := blockChange{
		key: key, host: host, hash: hash, header: msg.Header, body: msg.Data, revision: meta.Sequence.Stream, time: meta.Timestamp,
	}
	kind, err := q.announceChange(ctx, &c, source)
	if err != nil || kind != blockedKind {
		return err
	}
	return q.announceSuccessor(ctx, c, source)
}

// announceSuccessor announces the newest change of a pair after an older one. A dispatcher that was stopped for a while may announce a block
// only after its end was delivered; the end was then dropped, since no event said that the pair was blocked.
func (q *Queue) announceSuccessor(ctx context.Context, c blockChange, source string) error {
	raw, err := q.readBlocks.GetLastMsgForSubject(ctx, kvSubject(q.blocks, c.key))
	if errors.Is(err, natsjs.ErrMsgNotFound) || err == nil && raw.Sequence <= c.revision {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read block %s: %w", c.key, err)
	}
	c.header, c.body, c.revision, c.time = raw.Header, raw.Data, raw.Sequence, raw.Time
	_, err = q.announceChange(ctx, &c, source)
	return err
}

// blockChange is one change of COMFY_BLOCKS.
type blockChange struct {
	key      string
	host     string
	hash     workflow.Hash
	header   nats.Header
	body     []byte
	revision uint64
	time     time.Time
}

// announceChange gives the kind of the event that it appended; empty when it appended none.
func (q *Queue) announceChange(ctx context.Context, c *blockChange, source string) (string, error) {
	all := names.BlockEventsPrefix + c.key + ".*"
	last, announced, err := q.lastNote(ctx, all)
	if err != nil || announced >= c.revision {
		return "", err
	}
	kind, body, err := c.event()
	if err != nil {
		return "", err
	}
	if kind == unblockedKind && !strings.HasSuffix(last.Subject, "."+blockedKind) {
		return "", nil // it was never announced as blocked
	}
	out := &nats.Msg{Subject: names.AppendSubject(names.BlockEventsPrefix + c.key + "." + kind), Data: body, Header: noteHeader("comfy.block."+kind, source, c.key, c.revision, c.time)}
	_, err = q.js.PublishMsg(ctx, out, natsjs.WithExpectLastSequenceForSubject(last.Sequence, all))
	if conflict(err) {
		return "", nil // another dispatcher announced it after our AckWait had passed
	}
	return kind, wrap(err, "announce %s of %s on host %s", kind, c.hash.Short(), c.host)
}

const (
	blockedKind   = "blocked"
	unblockedKind = "unblocked"
)

func (c *blockChange) event() (kind string, body []byte, err error) {
	marker := c.header.Get(names.MarkerReasonHeader)
	if c.header.Get(names.KVOperationHeader) == "" && marker == "" {
		return blockedKind, c.body, nil
	}
	cause := UnblockCause(cmp.Or(c.header.Get(names.CauseHeader), string(Cleared)))
	if marker == names.MaxAgeReason {
		cause = Expired
	}
	body, err = json.Marshal(Unblocked{Host: c.host, Hash: c.hash, Cause: cause, Time: c.time})
	return unblockedKind, body, wrap(err, "encode unblocked event")
}

// lastNote reads the last event of a subject, and the revision that it announced.
func (q *Queue) lastNote(ctx context.Context, subject string) (jetstream.Note, uint64, error) {
	raw, err := q.readEvents.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return jetstream.Note{}, 0, nil
	}
	if err != nil {
		return jetstream.Note{}, 0, fmt.Errorf("read last event of %s: %w", subject, err)
	}
	note := jetstream.Note{Subject: raw.Subject, Header: raw.Header, Body: raw.Data, Sequence: raw.Sequence, Time: raw.Time}
	return note, headerUint(raw.Header, names.RevisionHeader), nil
}

func noteHeader(kind, source, subject string, revision uint64, when time.Time) nats.Header {
	return nats.Header{
		"ce-specversion":        {"1.0"},
		"ce-id":                 {subject + "-" + strconv.FormatUint(revision, 10)},
		"ce-source":             {source},
		"ce-type":               {kind},
		"ce-subject":            {subject},
		"ce-time":               {when.UTC().Format(time.RFC3339Nano)},
		names.ContentTypeHeader: {"application/json"},
		names.RevisionHeader:    {strconv.FormatUint(revision, 10)},
	}
}
