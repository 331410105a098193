package queue

// Reconnected is closed when the connection is next established anew. Live messages (Follow*, Broadcast) of the
// time before may be lost: whoever relies on them has to look again.
func (q *Queue) Reconnected() <-chan struct{} { return q.reconnects.current() }
