// Package bench measures how fast comfyherd is, beside the raw limit of the same NATS in the same run.
//
// It drives the real dispatcher and agent end to end; only ComfyUI is replaced, by a host in this process that
// finishes after a given time, or by simulated ComfyUI over sockets. The raw limit sends the same messages (publish,
// deliver, three chained events, ack) with bare nats.go and nothing else.
package bench
