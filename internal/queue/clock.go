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

// Now is NATS' time, as exact as measurements allow: the time that the server would give a message that it stores at this moment.
// Between measurements this machine's monotonic clock counts, so a wall clock that is wrong, or is set, changes nothing. Now has no
// monotonic reading: compare it only with times of Now and of the server.
func (q *Queue) Now() time.Time { return q.clock.now() }

// ClockOff is how far this machine's wall clock is ahead of NATS'; negative when it is behind.
func (q *Queue) ClockOff() time.Duration { return q.clock.wall().Sub(q.clock.now()) }

// Offset is how far a clock is ahead, negative when it is behind: a Go string such as "-1h0m0s" in JSON.
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
	clockSamples = 5               // of one measurement; the one with the shortest round trip counts
	clockRenewal = time.Minute     // between two measurements
	clockLook    = 5 * time.Second // between two checks whether the machine slept
	clockSlept   = time.Second     // difference of wall and monotonic clock that shows that it slept, or that its clock was set
	clockTimeout = time.Second     // the longest wait for the server's answer
)

// clock is NATS' time, measured by requests to the server. The monotonic clock of a machine stops while it sleeps, so the time is
// measured again after each reconnect and whenever wall clock and monotonic clock differ.
type clock struct {
	ask   func(ctx context.Context) (time.Time, error) // the server's time
	wall  func() time.Time
	start time.Time // with its monotonic reading; all local time is counted from here
	warn  func(error)
	known atomic.Pointer[clockSetting] // written by measure only

	warned bool // used by measure only

	quit context.CancelFunc
	done sync.WaitGroup
}

// clockSetting is what was measured last.
type clockSetting struct {
	atStart  time.Time     // NATS' time at start, without a monotonic reading
	within   time.Duration // atStart may be off by this
	measured bool          // false: it is this machine's time
}

func (c *clock) now() time.Time { return c.known.Load().atStart.Add(time.Since(c.start)) }

// begin measures once, then again and again until stop. Until a measurement succeeds the time is this machine's.
func (c *clock) begin(ctx context.Context, reconnects func() <-chan struct{}, closed <-chan struct{}) {
	c.start = time.Now()
	c.known.Store(&clockSetting{atStart: c.wall().Round(0)})
	seen := clockMoment{c.wallDrift(), reconnects()}
	c.measure(ctx)
	loop, quit := context.WithCancel(context.WithoutCancel(ctx))
	c.quit = quit
	c.done.Go(func() { c.measureLoop(loop, seen, reconnects, closed) })
}

// clockMoment is the state at the beginning of a measurement; when it changes, the time is measured again.
type clockMoment struct {
	drift       time.Duration
	reconnected <-chan struct{} // closed by the next reconnect
}

func (c *clock) stop() {
	if c.quit != nil {
		c.quit()
		c.done.Wait()
	}
}

func (c *clock) measureLoop(ctx context.Context, seen clockMoment, reconnects func() <-chan struct{}, closed <-chan struct{}) {
	renewal, look := time.NewTicker(clockRenewal), time.NewTicker(clockLook)
	defer renewal.Stop()
	defer look.Stop()
	for {
		select {
		case <-renewal.C:
		case <-seen.reconnected:
		case <-look.C:
			if (c.wallDrift()-seen.drift).Abs() < clockSlept && c.known.Load().measured {
				continue
			}
		case <-closed:
			return
		case <-ctx.Done():
			return
		}
		seen = clockMoment{c.wallDrift(), reconnects()}
		c.measure(ctx)
	}
}

// wallDrift is how much more time has passed on the wall clock than on the monotonic one.
func (c *clock) wallDrift() time.Duration {
	return c.wall().Round(0).Sub(c.start.Round(0)) - time.Since(c.start)
}

// measure asks the server several times and sets the clock by the answer with the shortest round trip. The setting is moved only as
// far as the measurement contradicts it, so that time does not jump back and forth with every answer.
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
			c.warn(fmt.Errorf("NATS' time cannot be measured, so this machine's clock is used: check that it is right: %w", failed))
		}
		return
	}
	if before.measured {
		best = best.nearest(before.atStart)
	}
	c.known.Store(&best)
}

// nearest is the setting that agrees with measurement s and is nearest to the one in force.
func (s clockSetting) nearest(atStart time.Time) clockSetting {
	off := min(max(atStart.Sub(s.atStart), -s.within), s.within)
	s.atStart, s.within = s.atStart.Add(off), s.within+off.Abs()
	return s
}

// sample asks the server once, and takes its answer as the time in the middle of the round trip.
func (c *clock) sample(ctx context.Context) (clockSetting, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	sent := time.Since(c.start)
	server, err := c.ask(ctx)
	half := (time.Since(c.start) - sent) / 2
	return clockSetting{atStart: server.Add(-sent - half).Round(0), within: half, measured: true}, err
}

// serverTime gives a function that asks the leader of a stream for its time: of COMFY_JOBS, or of the first stream that this
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
	ctx, cancel := context.WithTimeout(ctx, clockTimeout/3)
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
