// Package outside makes requests to addresses that somebody else has chosen: the URL of an input is chosen by a tenant, and the URL of a
// webhook by its owner.
//
// addresses.go says which addresses may be dialled, for every program that makes such requests. A program of the fleet can reach what
// those who choose the addresses cannot: ComfyUI itself, a private network, a cloud's metadata service with its secrets. An address is
// judged when it is dialled, after its name was looked up, so that a name cannot change its address after a check.
//
// All other files deliver events to webhooks (webhooks.go).
//
// The guarantee: the delivery of an event that a webhook wants is tried for a day, or until the receiver has answered 2xx. The receiver may
// get an event more than once, each time with the same webhook-id. No webhook delays another, and every try is stored as an event.
//
// Any number of processes share the work, and each may be killed at any time, since all state is in NATS. Two consumers carry it. By
// the first one a process receives each event that some webhook wants (known.go has the webhooks), and stores for each of these webhooks
// in COMFY_DELIVERIES that it is to be delivered (notice.go). By the second one a process receives what is to be delivered and gives it
// to the endpoint of its webhook (endpoints.go), where a few are tried at a time (try.go), each with one request (send.go). The age of a
// stored delivery says when its next try is due (schedule.go), so its tries are not counted. An endpoint with too many deliveries, or whose
// receiver has failed several times in a row, gives deliveries back to NATS for a while, and so never holds up the consumer. metrics.go counts.
//
// The order of effects of a try: the request, its record, the removal. A crash after the request repeats it.
package outside
