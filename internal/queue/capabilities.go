package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// What a host can run is stored once a host, in 40 to 100 kB, and the thousands of hosts of a fleet have few different installations. So
// its watch receives the headers of all hosts, and reads one value of each installation: a header has the digest of the value.

// CapabilityOf decodes what a host can run.
func CapabilityOf(e Entry) (c workflow.Capability, err error) {
	err = c.UnmarshalBinary(e.Value)
	return c, wrap(err, "decode the capability")
}

// PutCapability stores what a host can run.
func (q *Queue) PutCapability(ctx context.Context, host string, capability []byte) error {
	msg := &nats.Msg{Subject: q.rawSubject(q.capabilities, host), Header: headerOf(names.DigestHeader, digestOf(capability)), Data: capability}
	_, err := q.js.PublishMsg(ctx, msg)
	return wrap(err, "store capability of host %s", host)
}

func digestOf(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

// Capability reads what a host can run, as PutCapability stored it; nil when nothing is stored, or by an older version, without the digest.
func (q *Queue) Capability(ctx context.Context, host string) ([]byte, error) {
	raw, err := q.readCapabilities.GetLastMsgForSubject(ctx, kvSubject(q.capabilities, host))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read capability of host %s: %w", host, err)
	}
	if operationOf(raw.Header) != natsjs.KeyValuePut || raw.Header.Get(names.DigestHeader) == "" {
		return nil, nil
	}
	return raw.Data, nil
}

// operationOf is what a message of a bucket does to its key. A marker of the server means that the key is gone.
func operationOf(h nats.Header) natsjs.KeyValueOp {
	if h.Get(names.KVOperationHeader) != "" || h.Get(names.MarkerReasonHeader) != "" {
		return natsjs.KeyValuePurge
	}
	return natsjs.KeyValuePut
}

// WatchCapabilities calls tell for every change of what a host can run.
func (q *Queue) WatchCapabilities(ctx context.Context, tell func(Change[workflow.Capability])) error {
	return watchBy(ctx, q, q.capabilities, watcherOf{open: q.watchDigests}, sharingCopies(CapabilityOf), tell)
}

// capabilitiesKept is how many decoded capabilities the watch keeps, and how many values a digestWatcher keeps.
const capabilitiesKept = 64

// sharingCopies makes a reader of capabilities that keeps the last capabilitiesKept different ones. A value that equals one of them is not
// decoded again, so the thousands of hosts of a fleet that are installed alike share one copy.
func sharingCopies(read func(Entry) (workflow.Capability, error)) func(Entry) (workflow.Capability, error) {
	var kept []workflow.Capability
	return func(e Entry) (workflow.Capability, error) {
		for _, c := range kept {
			if c.Marshals(e.Value) {
				return c, nil
			}
		}
		c, err := read(e)
		if err == nil {
			kept = append(kept[max(0, len(kept)+1-capabilitiesKept):], c)
		}
		return c, err
	}
}

// digestWatcher gives the entries of COMFY_CAPABILITIES with their values, as a watcher of nats.go does, but receives only headers.
// A value is read when none with its digest is kept. Each value is kept under the digest that is computed from it: a host with a
// wrong digest in its header may get the capability of another host, and cannot change what other hosts get.
type digestWatcher struct {
	q       *Queue
	updates chan natsjs.KeyValueEntry
	cancel  context.CancelFunc

	values map[string][]byte // by digest
	order  []string          // digests of values, in the order in which they came
}

// watchDigests opens a digestWatcher until ctx ends or it is stopped.
func (q *Queue) watchDigests(ctx context.Context, _ uint64) (natsjs.KeyWatcher, error) {
	consumer, err := q.readCapabilities.OrderedConsumer(ctx, natsjs.OrderedConsumerConfig{
		FilterSubjects: []string{kvSubject(q.capabilities, ">")}, DeliverPolicy: natsjs.DeliverLastPerSubjectPolicy, HeadersOnly: true,
	})
	if err != nil {
		return nil, err
	}
	pending := consumer.CachedInfo().NumPending
	messages, err := consumer.Messages(natsjs.PullMaxMessages(500))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &digestWatcher{q: q, updates: make(chan natsjs.KeyValueEntry, 256), cancel: cancel, values: map[string][]byte{}}
	go func() {
		defer close(w.updates)
		w.run(ctx, messages, pending == 0)
		messages.Stop()
		w.remove(consumer.CachedInfo().Name)
	}()
	return w, nil
}

// remove removes the watcher's consumer, which NATS would keep for minutes.
func (w *digestWatcher) remove(consumer string) {
	if !w.q.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	_ = w.q.readCapabilities.DeleteConsumer(ctx, consumer) // else NATS removes it, when nobody has used it for a while
}

const removeTimeout = time.Second

func (w *digestWatcher) Updates() <-chan natsjs.KeyValueEntry { return w.updates }

// Stop ends the watcher. Its updates are closed soon afterwards.
func (w *digestWatcher) Stop() error {
	w.cancel()
	return nil
}

// run gives entries until one cannot be read: then watchEntries opens another watcher.
func (w *digestWatcher) run(ctx context.Context, messages natsjs.MessagesContext, synced bool) {
	if synced && !w.give(ctx, nil) {
		return
	}
	for {
		msg, err := messages.Next(natsjs.NextContext(ctx))
		if err != nil {
			return
		}
		meta, err := msg.Metadata()
		if err != nil {
			continue
		}
		e := &digestEntry{bucket: w.q.capabilities.Bucket(), subject: msg.Subject(), meta: meta, operation: operationOf(msg.Headers())}
		current := true
		if e.operation == natsjs.KeyValuePut {
			e.value, current, err = w.value(ctx, msg.Headers().Get(names.DigestHeader), meta.Sequence.Stream)
		}
		if err != nil || current && !w.give(ctx, e) {
			return
		}
		if !synced && meta.NumPending == 0 {
			if synced = true; !w.give(ctx, nil) {
				return
			}
		}
	}
}

func (w *digestWatcher) give(ctx context.Context, e natsjs.KeyValueEntry) bool {
	select {
	case w.updates <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// value gives the value of the message at a sequence, whose header has this digest. current is false when a later message has
// replaced it; the watch receives that one next.
func (w *digestWatcher) value(ctx context.Context, digest string, sequence uint64) (value []byte, current bool, err error) {
	if value, known := w.values[digest]; known {
		return value, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, orderedTimeout)
	defer cancel()
	raw, err := w.q.readCapabilities.GetMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if digest != "" {
		w.keep(raw.Data)
	}
	return raw.Data, true, nil
}

// keep keeps a value under its own digest.
func (w *digestWatcher) keep(value []byte) {
	digest := digestOf(value)
	if _, known := w.values[digest]; known {
		return
	}
	if len(w.order) == capabilitiesKept {
		delete(w.values, w.order[0])
		w.order = w.order[1:]
	}
	w.values[digest], w.order = value, append(w.order, digest)
}

// digestEntry is an entry of a bucket whose value may be that of another key of the same digest.
type digestEntry struct {
	bucket, subject string
	meta            *natsjs.MsgMetadata
	operation       natsjs.KeyValueOp
	value           []byte
}

func (e *digestEntry) Bucket() string               { return e.bucket }
func (e *digestEntry) Key() string                  { return e.subject[len(names.KeySubject(e.bucket, "")):] }
func (e *digestEntry) Value() []byte                { return e.value }
func (e *digestEntry) Revision() uint64             { return e.meta.Sequence.Stream }
func (e *digestEntry) Created() time.Time           { return e.meta.Timestamp }
func (e *digestEntry) Delta() uint64                { return e.meta.NumPending }
func (e *digestEntry) Operation() natsjs.KeyValueOp { return e.operation }
