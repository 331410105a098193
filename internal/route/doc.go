// Package route decides: which host takes a job, whose turn it is, who is blocked and for how long.
//
// Guarantee: no decision ever names a host that is blocked for the job, excluded by it, known to be incapable
// of it, or full; and equal facts give equal decisions, in whatever order the facts came in. Nothing here reads
// a clock, waits, or does I/O; the time is an argument.
//
// [Fleet] is all that is known of hosts, [Room] is the waiting room, [Strikes] is the memory of one pair of host
// and hash. Fleet and Room are mutable and belong to one goroutine; all else is values.
//
// How a decision stays cheap: hosts have dense numbers, so that "online", "has a free slot", "capable of this
// hash", "blocked for it" are bit sets, and choosing is a sequence of intersections, 64 hosts at a time; see
// choose.go. Waiting jobs that are alike form a class, and classes that the same hosts can take form a pool, so
// that work which cannot run now is passed over as a whole; see pool.go.
//
// What is decided about, and the facts of the fleet:
//
//	types.go        ids, a host's state, a block, and what a job wants
//	fleet.go        hosts, their jobs and tenants; account.go keeps the sums of these, bits.go has the sets of hosts
//	hashfacts.go    what is known of a workflow: its requirements and models, and which hosts are capable of it
//	reach.go        which installations can run a workflow, shared by all workflows of which these are the same
//	grants.go       hosts that serve only some tenants
//	slots.go        how many jobs of a tenant run, of those it may run at once
//	learn.go        how long runs and loading take, and whether waiting for a warm host is worth it
//
// Choosing a host for a job:
//
//	choose.go       the best of all hosts; rendezvous.go: among equal ones, and who is the home of a host
//	allowed.go      whether one host may take the job (permits)
//	explain.go      for each host why it takes the job or does not, and why a job waits; texts.go
//
// Strikes and blocks:
//
//	strikes.go      what a failure adds, and the block that follows (Strikes.Add); shortage.go: of out_of_memory
//	success.go      what a success clears
//	policy.go       how many failures make a block, and how long it lasts: the cooldown (Policy.BlockFor)
//	blockscope.go   for which jobs a block holds
//	blocks.go       the blocks in force, in the fleet
//	guilt.go        tenants whose jobs took hosts down
//
// Whose turn it is:
//
//	room.go         the waiting room: tickets come and go (records.go keeps them; class.go, pool.go: which are alike)
//	share.go        lanes, what each has used, and ageing: its priority rises by one every AgeStep (agedPriority; AgeStep is
//	                in room.go); ceiling.go: the highest priority that a tenant's jobs count as
//	turn.go         the order: the best job for a host (Next) or for any host (Pick), compared in consider, and which are passed
//	                over (hostFor); homes.go: which are left to other dispatchers; heap.go; ranks.go: how many of a lane come
//	                before one
//	aside.go        jobs that are blocked on all hosts with room are set aside
//	timers.go       when a job with run_at becomes due, and when jobs expire
//	places.go       the place of a job, and when it may start; lanes.go: what waits, by lane
//	roomshares.go   how many places of the waiting room each tenant gets
//	survey.go       counts of what waits, and why; wanted.go: how many hosts that asks for
package route
