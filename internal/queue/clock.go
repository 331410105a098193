package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Now is NATS' time: what the server would stamp on a message that is stored at this moment, as far as that is known
// from here. It goes on with this machine's monotonic clock, so that a wall clock that is off, or set
// anew, changes nothing. It has no monotonic reading: subtract only what Now or the server gave.
func (q *Queue) Now() time.Time { return q.clock.now() }

// ClockOff is by how much this machine's wall clock is ahead of NATS'; negative when it is behind.
func (q *Queue) ClockOff() time.Duration { return q.clock.wall().Sub(q.clock.now()) }

// Offset is by how much a clock is ahead, negative when it is behind: a Go string such as "-1h0m0s" in JSON.
type Offset time.Duration

// MarshalText gives the Go form.
func (o Offset) MarshalText() ([]byte, error) { return []byte(time.Duration(o).String()), nil }

// UnmarshalText takes the Go form.
func (o *Offset) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*o = Offset(parsed)
	return wrap(err, "read an offset")
}

const (
	clockSamples  = 5               // of one measurement; the one with the shortest round trip counts
	clockRenewal  = time.Minute     // between two measurements
	clockLook     = 5 * time.Second // between two looks for a machine that slept
	clockSlept    = time.Second     // by which wall and monotonic clock part when it did, or when the clock was set
	clockPatience = time.Second     // for the server's answer
)

// clock is NATS' time, measured against the server. A machine that sleeps stops its monotonic clock, so it is measured
// anew after each reconnect and whenever wall clock and monotonic clock have parted.
type clock struct {
	ask   func(ctx context.Context) (time.Time, error) // the server's time
	wall  func() time.Time
	start time.Time // with its monotonic reading; all local time is counted from here
	warn  func(error)
	known atomic.Pointer[clockSetting] // written by measure only

	warned bool // only measure touches it

	quit context.CancelFunc
	done sync.WaitGroup
}

// clockSetting is what was measured last.
type clockSetting struct {
	zero     time.Time // NATS' time at start, without a monotonic reading
	within   time.Duration
	measured bool
}

func (c *clock) now() time.Time { return c.known.Load().zero.Add(time.Since(c.start)) }

// begin measures once and goes on measuring until stop. The first time counts from what the machine says.
func (c *clock) begin(ctx context.Context, anew func() <-chan struct{}, closed <-chan struct{}) {
	c.start = time.Now()
	c.known.Store(&clockSetting{zero: c.wall().Round(0)})
	seen := clockMoment{c.parted(), anew()}
	c.measure(ctx)
	loop, quit := context.WithCancel(context.WithoutCancel(ctx))
	c.quit = quit
	c.done.Go(func() { c.measureLoop(loop, seen, anew, closed) })
}

// clockMoment is what a measurement was made under: what changes before it has ended calls for another.
type clockMoment struct {
	parted time.Duration
	anew   <-chan struct{} // closed by the next reconnect
}

func (c *clock) stop() {
	if c.quit != nil {
		c.quit()
		c.done.Wait()
	}
}

func (c *clock) measureLoop(ctx context.Context, seen clockMoment, anew func() <-chan struct{}, closed <-chan struct{}) {
	renewal, look := time.NewTicker(clockRenewal), time.NewTicker(clockLook)
	defer renewal.Stop()
	defer look.Stop()
	for {
		select {
		case <-renewal.C:
		case <-seen.anew:
		case <-look.C:
			if (c.parted()-seen.parted).Abs() < clockSlept && c.known.Load().measured {
				continue
			}
		case <-closed:
			return
		case <-ctx.Done():
			return
		}
		seen = clockMoment{c.parted(), anew()}
		c.measure(ctx)
	}
}

// parted is by how much the wall clock has gone further than the monotonic one.
func (c *clock) parted() time.Duration {
	return c.wall().Round(0).Sub(c.start.Round(0)) - time.Since(c.start)
}

// measure asks the server several times and sets the clock by the answer that took least. The setting moves by no more
// than the measurement proves it wrong, so that time does not go to and fro with every answer.
func (c *clock) measure(ctx context.Context) {
	best := clockSetting{within: -1}
	var failed error
	for range clockSamples {
		s, err := c.sample(ctx)
		switch {
		case err != nil:
			failed = err
		case best.within < 0 || s.within < best.within:
			best = s
		}
		if err != nil {
			break
		}
	}
	before := c.known.Load()
	if best.within < 0 {
		if !before.measured && !c.warned && ctx.Err() == nil {
			c.warned = true
			c.warn(fmt.Errorf("NATS does not tell its time, so this machine's clock is taken for it: %w", failed))
		}
		return
	}
	if before.measured {
		best = best.nearest(before.zero)
	}
	c.known.Store(&best)
}

// nearest is what agrees with the measurement and is nearest to a setting that was in force.
func (s clockSetting) nearest(zero time.Time) clockSetting {
	off := min(max(zero.Sub(s.zero), -s.within), s.within)
	s.zero, s.within = s.zero.Add(off), s.within+off.Abs()
	return s
}

// sample takes the server's word for the middle of its round trip.
func (c *clock) sample(ctx context.Context) (clockSetting, error) {
	ctx, cancel := context.WithTimeout(ctx, clockPatience)
	defer cancel()
	sent := time.Since(c.start)
	told, err := c.ask(ctx)
	half := (time.Since(c.start) - sent) / 2
	return clockSetting{zero: told.Add(-sent - half).Round(0), within: half, measured: true}, err
}

// serverTime asks for the time of the server that leads a stream: of the stream of jobs, or of the next that this
// program may ask about.
func (q *Queue) serverTime() func(context.Context) (time.Time, error) {
	streams := []string{names.JobsStream, names.EventsStream, names.BucketStream(names.HostsBucket)}
	first := 0
	return func(ctx context.Context) (told time.Time, err error) {
		for range streams {
			told, err = q.streamTime(ctx, streams[first])
			if err == nil || ctx.Err() != nil {
				return told, err
			}
			first = (first + 1) % len(streams)
		}
		return told, err
	}
}

func (q *Queue) streamTime(ctx context.Context, stream string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, clockPatience/3)
	defer cancel()
	msg, err := q.nc.RequestMsgWithContext(ctx, nats.NewMsg(q.apiSubject("STREAM.INFO."+stream)))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask NATS about stream %s: %w", stream, err)
	}
	var info struct {
		Time time.Time `json:"ts"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil || info.Time.IsZero() {
		return time.Time{}, fmt.Errorf("ask NATS about stream %s: the answer has no time: %.200s", stream, msg.Data)
	}
	return info.Time, nil
}
