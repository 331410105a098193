// Package dispatcher decides which host runs a job. It also settles failures: it gives strikes, blocks hosts for a workflow,
// and lets a job be tried again or ends it. It keeps the quotas and limits of tenants. And it answers the calls of operators
// and tenants.
//
// Guarantee: any number of dispatchers share the work with no coordination but NATS, none of them keeps anything
// that is not in JetStream, and each may be killed at any line.
//
// One goroutine, the loop, decides; it never waits for the wire. Walks, each on a goroutine of its own, read and write
// the wire for one job or one question, ask the loop, and tell it what has come of it. The order of effects, with what
// a crash between two of them leaves, is at the top of the function that has them.
//
// # The walk of a job
//
//	receive.go        jobs are pulled and parsed, those of one id one after the other; what is no job ends here (reference.go: jobs in files)
//	intakelimit.go    a tenant that publishes far more than the others waits (tenantbalance.go: who does)
//	place.go          the loop finds a host, after those that wait have had free slots (placeNow), or the reason why there is none; it
//	                  takes in what came of an offer, and gives back a slot that was kept for one (releaseNow)
//	dispatch.go       the chain of events begins with queued; the job is offered to its host's agent
//	park.go           without a host it waits: in hand for a moment, with a ticket, or at rest in the stream
//	match.go          the loop gives a free slot the best job: it takes it from the hand or the waiting room; internal/route/turn.go has the order
//	claim.go          a ticket is claimed, so that one dispatcher has its job, and the job is dispatched
//	redelivered.go    a delivery of a job that has a chain goes on where the chain says (beginChain finds that, since its queued is refused)
//	settle.go         a failed attempt becomes a retry or a dead letter
//	evidence.go       what is known of the fleet beside the job's own attempts
//	strikes.go        what a failure or a success says of host and workflow becomes strikes and blocks, one after the other of a pair
//	finish.go         a job that has ended is removed from the stream
//	walks.go          the goroutines of walks
//	lease.go          the lease is given back, put off, or left to run out
//	owned.go          the job on all this way, also read anew from the stream; options.go: what a host may lack for it
//	chains.go         what the chain says of it: earlier attempts, the next one, its place in the stream
//
// # The loop and its parts
//
//	loop.go           the loop, and in which order things happen; parts.go makes the parts
//	watches.go        which part takes in the changes of which bucket
//	mirror.go         keeping up with a bucket through its watch
//	changes.go        what has to be looked at before the loop waits again
//	alarms.go         what is to be done at a time
//	sliced.go         what takes long is done a part in each of many turns
//
// What is known of the fleet:
//
//	peers.go          the live dispatchers, and who is whose home (duplicatename.go: two of one name)
//	hosts.go          what agents say of their hosts: here a slot becomes free (report, apply) (hostsgone.go: hosts that have gone)
//	statesources.go   in a large fleet, from whom the states of hosts are received (relays.go: what homes send to the others;
//	                  gate.go: watches that run only at times; slotreads.go: tenants' slots, which their homes read)
//	hostrests.go      hosts that are given no jobs for a while, since they do not begin them
//	grants.go         what operators allow hosts
//	capabilities.go   what hosts can run (capabilityChanged lifts blocks), and where operators want a workflow
//	blocks.go         pairs of host and workflow that are blocked, have strikes, or have just failed (halt: for a second, until that is settled)
//	guilt.go          workflows that take hosts down
//	successes.go      what has completed lately
//	tenants.go        the settings of tenants
//	tenantslots.go    how many jobs of a tenant may run at once, and which do
//
// What is known of jobs:
//
//	hand.go           jobs that wait here with their delivery
//	waitingroom.go    tickets, which any dispatcher may claim (ticketnews.go: how their changes arrive);
//	                  internal/route/timers.go: when a job with run_at becomes due
//	requirements.go   what workflows need from a host, when only a ticket is at hand
//	ticketing.go      who gets a ticket (restingjobs.go: jobs that got none)
//	reasons.go        why jobs wait, and which ones no host can ever run
//	promises.go       jobs that agents have accepted and not begun yet
//	removed.go        jobs that were taken out of the stream by hand
//	backpressure.go   how many jobs are pulled (pace.go: how fast they leave; intakepause.go: with pauses while enough wait)
//	quota.go          how many unfinished jobs a tenant may have (quotatotal.go: what all have together)
//
// # Calls
//
// Calls are answered beside the loop as far as they can; what they ask the loop is limited by calllimits.go.
//
//	calls.go          the operators' calls; tenantcalls.go: those of a tenant
//	statuscalls.go    the state of a job, and why it waits
//	listcalls.go      hosts, blocks, lanes; pages.go: as much as an answer has room for
//	history.go        lists of jobs
//	overviewcall.go   the fleet as a whole; needs.go: what a person should look at
//	waitingcall.go    jobs that wait, in their order
//	workflowscall.go  workflows, and what the fleet can do with them
//	fleetcalls.go     dispatchers and settings
//	offlinehosts.go   hosts that have gone
//	storycall.go      all that is stored of a job
//	surveys.go        what is counted of the fleet, in slices of the loop, for calls and metrics
//	rulecalls.go      unblock, drain, affinity, settings of tenants; settings.go: what is set
//	cancelcalls.go    cancel; cancellimit.go: of jobs that were never seen
//	deadletters.go    dead letters: lists and requeue; purgecall.go: deletion; deadgroups.go: what jobs have died of
//	webhookcalls.go   settings of webhooks; webhooklist.go: with their last tries; webhookredeliver.go: events delivered again
//	apikeys.go        keys that a tenant submits for a job
//	files.go          files of tenants; inputshares.go: how much of them; cursors.go: where a call goes on
//	audit.go          who has changed what
//
// dispatcher.go starts and stops all of it; wire.go is what it needs of NATS.
//
// # Metrics
//
//	metrics.go        what this process does
//	tally.go          what has happened to jobs and blocks: each event is counted by one dispatcher
//	fleetmetrics.go   facts of the whole fleet, from a survey
package dispatcher
