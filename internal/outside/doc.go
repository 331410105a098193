// Package outside is about requests of the fleet to addresses that somebody else has chosen: a tenant the URL of an input, or the owner of
// a webhook where it is.
//
// Which addresses may be dialled stands in addresses.go, for every program that makes such requests. A program of the fleet can reach what
// those who choose the addresses cannot: ComfyUI itself, a private network, a cloud's metadata service with its secrets. An address is
// judged when it is dialled, after its name was looked up, so that a name cannot change its address after a check.
//
// All other files deliver events to webhooks (webhooks.go).
//
// The guarantee: an event that a webhook wants is delivered, until the receiver has answered 2xx, for a day. It may be delivered more
// than once, each time with the same webhook-id. No webhook delays another, and every try is stored as an event.
//
// Any number of processes share the work, and each may be killed at any time, since all state is in NATS. Two consumers carry it. By
// the first one a process receives each event that some webhook wants (known.go has the webhooks), and stores for each of these webhooks
// in COMFY_DELIVERIES that it is to be delivered (notice.go). By the second one a process receives what is to be delivered and puts it
// into the lane of its webhook (lanes.go), which tries a few at a time (try.go), each with one request (send.go). The age of a stored
// delivery says when its next try is due (schedule.go), so no counter is kept. A lane that is full, or whose receiver fails, gives
// deliveries back to NATS for a while instead of holding them, and so never holds up the consumer. metrics.go counts.
//
// The order of effects of a try: the request, its record, the removal. A crash after the request repeats it.
package outside
