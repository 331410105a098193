// Package bench measures how fast comfyherd is, beside the raw limit of the same NATS in the same run.
//
// It drives the real dispatcher and agent end to end; only ComfyUI is replaced, by a host in this process that
// finishes after a given time, or by simulated ComfyUI over sockets. The raw limit sends the same messages (publish,
// deliver, three chained events, ack) with bare nats.go and nothing else. After the load of each side some jobs come one by
// one. On the raw side such a job takes four round trips one after the other (deliver, append, request, append), which is
// what a job needs until it has started.
package bench
