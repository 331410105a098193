// Package queue is what dispatchers and agents share on NATS.
//
// Guarantee: a submitted job is stored once, has exactly one terminal event, and its last event is its state. Three mechanisms
// hold it:
//
//   - The lease: a job stays in COMFY_JOBS until it has ended. Whoever extends its delivery owns the job; when nobody extends it
//     for AckWait, NATS delivers the job again. A lease is not fenced, so no decision rests on it alone.
//   - The chain: a job's events are appended by compare-and-set on the job's last event. Of two writers that expect the same last
//     event one succeeds, and the other gets ErrOvertaken and must read the chain again.
//   - The waiting room: a job that cannot run now is parked, and a ticket in COMFY_WAITING stands for it, which exactly one
//     dispatcher can claim.
//
// Open makes the streams and buckets that are missing and returns a Queue, whose methods are the rest of the package. The types of
// a tenant's calls are those of package jetstream, the names on the wire those of package names.
//
// The files, in reading order:
//
//	config, queue               settings, Open, and what an open Queue has
//	topology*                   the streams and buckets: how they are made, changed, limited, and made again when deleted
//	delivery, pull, lease       jobs are received; their leases are extended, parked and ended
//	chain, endedchains, publish, cancel
//	                            events of a job are appended and read; a job is cancelled
//	tickets, ticketlog, slots   the waiting room, its changes after a revision, and the slots of tenants with a cap
//	offers, presence            jobs are offered to hosts; hosts and dispatchers say that they are there
//	hoststate_*, hostevents     the state of a host in JSON; events of hosts
//	relay, chosenhosts          the states of hosts in a large fleet, from other dispatchers or of some hosts only
//	hostconditions, grants      what outlives an agent; the tenants that a host serves
//	capabilities, catalogs, pages
//	                            what a host can run, what its ComfyUI answers about itself, and GETs that it is asked
//	blocks, blockevents         blocks and strikes, and the events that announce them
//	settings, audit, secrets    affinity rules and tenants' settings; who changed what; random bytes that a fleet shares
//	deadletters*                dead jobs are buried, listed and requeued
//	follow, directget           events as they come, with a consumer and without one
//	eventreader, eventpages, eventsof
//	                            stored events in batches, pages of them for tenants, the newest of a subject
//	tally                       events to be counted, each by one of all processes
//	progress, frames            live progress and previews, and messages of ComfyUI's websocket
//	files*, records, workflowfile
//	                            files of jobs in object stores: stored, read, read from an offset, counted; their names
//	apikeys, assets, uploads, userdata, requestkeys
//	                            what a gateway keeps for a tenant
//	webhook*, deliveries        webhooks, their tries, and the events that are to be delivered to them
//	serveapi, servecalls, servetenants, servefiles, operatorcalls, overview, stores, pagesize
//	                            the calls that a dispatcher answers
//	watch*, changes, sharedconsumer, sidebyside, turns, contention, requests, reconnects, clock, check, headers, natserrors, jobsize
//	                            tools of the other files: watches, compare-and-set, requests, NATS' time, checks of what is read
package queue
