// Package internal is the plan of the house: what lives where, what may know what,
// and the way a job takes through it. It holds no code; the tests beside it keep
// this plan and the tree the same.
//
// # Floors
//
// Arrows only point down: a room imports rooms of lower floors and, on floor 0, its
// neighbours to the right. Floor 1 has one foreign world per room, and those rooms
// never import each other, so each world can change alone. The world of NATS has two
// rooms for those who connect to it: the user's, and the fleet's, which imports it. On
// floor 2 one actor asks another: the agent fetches inputs only from addresses that
// internal/outside lets it dial.
//
//	floor 3   cmd/dispatcher                cmd/agent               flags in, exit code out
//	floor 2   internal/dispatcher           internal/agent -> internal/outside   internal/gateway   internal/dashboard   internal/trace   actors: the loops, and four faces
//	floor 1   internal/queue -> jetstream   internal/comfy   internal/daemon   internal/natsserver
//	          NATS                          ComfyUI          the OS            NATS's server
//	floor 0   internal/route, internal/names -> internal/job -> internal/workflow, internal/failure
//	          pure: no clock, no I/O, no goroutines, no logger
//	beside    internal/bench   internal/demo   internal/comfysim
//	          test/integration   test/gateway   test/browser   test/chaos   test/growth   test/docs   test/mutate
//	          examples/service   examples/advanced
//
// # Rooms
//
//	cmd/dispatcher        the operator's command: run, demo, submit, watch, and questions to a running fleet
//	cmd/agent             the command beside ComfyUI: one process, one loop per host in COMFY_HOSTS
//	internal/demo         shows failover, a block and its end on one machine, and claims only what it observed
//	internal/bench        measures the whole beside the raw limit of NATS in the same run
//	internal/dispatcher   pulls jobs, chooses hosts, offers, settles failures, announces blocks
//	internal/agent        takes offers, keeps leases alive, runs jobs on its hosts, reports, tells who is there
//	internal/gateway      programs that were written for ComfyUI use the fleet: ComfyUI's own API, its websocket, and the Comfy API v2
//	internal/dashboard    the fleet's page in a browser: calls, stored events and files over HTTP, and the page itself
//	internal/outside      requests to addresses that others have chosen: which may be dialled, and the delivery of events to webhooks
//	internal/trace        exports the trace of each job that has ended, by OpenTelemetry
//	jetstream             the public package: a tenant's client, which submits jobs, follows them and asks about them
//	internal/queue        what dispatchers and agents share on NATS: leases, chains of events, tickets, offers, presence, files, calls
//	internal/names        the names of everything on NATS: streams, buckets, subjects, headers, and how they are built and read
//	internal/comfy        one ComfyUI host over HTTP and websocket; every way it can fail becomes a failure.Kind
//	internal/comfysim     a ComfyUI that runs nothing: same protocol, real sockets, faults by script, for tests and the demo
//	internal/daemon       connection, log, flags, signals, version, health and metrics, and what a terminal shows: what both commands need
//	internal/natsserver   nats-server inside the process, alone or as a cluster; the keys of a closed fleet, and what each may do in NATS
//	internal/route        choosing a host, whose turn it is, strikes, blocks and cooldowns, as functions of now
//	internal/job          bytes to jobs and events and back; ids, lanes and names; events folded into one row a job: lists, pages, counts
//	internal/workflow     parsing, refusing, hashing and changing ComfyUI graphs, byte for byte
//	internal/failure      the closed set of failure kinds and what follows from each
//	internal              this plan and the tests that hold it true
//	examples/service      a small image service for several customers, to copy; it uses the public package alone
//	examples/advanced     shares, warm models and failover on a fleet of its own; it claims only what it observed
//	examples/advanced/operator  an operator's watcher and failover policy, written against the public package
//	test/integration      the promises of the README, on real in-process NATS and simulated ComfyUI over sockets
//	test/gateway          what the programs that were written for ComfyUI send, in their order, before a simulated fleet
//	test/browser          the dashboard's page in headless Chromium before a simulated fleet; it does not run where there is none
//	test/chaos            nothing is lost and nothing ends twice: real processes under kill -9, stops and cut connections
//	test/growth           memory does not grow with time: a soak beside NATS in a process of its own
//	test/mutate           changes one line at a time and reports those after which no test fails
//	test/docs             reads README and docs; its tests, and those of the commands, hold them against code and wire
//
// # The path of a job
//
// A publisher stores a job in COMFY_JOBS, and there it stays until it has ended.
// A dispatcher (internal/dispatcher) pulls it through internal/queue, has internal/job
// and internal/workflow read it, appends the event "queued" to the job's chain, and
// asks internal/route for a host, once those that wait have been looked at. If no host can take it now, it becomes a ticket
// in COMFY_WAITING that any dispatcher may claim later; otherwise it is offered to
// the host's agent with its lease, the delivery's ack subject.
//
// The agent (internal/agent) accepts, and from then on it alone keeps the lease
// alive. It appends "started", has internal/comfy run the prompt, stores the
// outputs, appends "completed" and acks, which removes the job. When the attempt
// fails, internal/comfy says with which kind, the agent appends "failed", and any
// dispatcher settles it: internal/failure gives the verdict, internal/route the
// strikes and blocks, and the job is tried again, parked, or dead.
//
// A job whose dispatcher or agent died is delivered again. Its event queued is refused then, since the chain has begun, and
// internal/dispatcher/redelivered.go goes on where the chain says.
//
// Three mechanisms carry this, all in internal/queue: the lease (who owns a job now), the
// chain (a job's events are appended by compare-and-set, so there is one end and
// the last event is the state), and the waiting room (a ticket is claimed once).
// No process keeps anything that is not in JetStream, so any may be killed.
//
// An actor has one rhythm: read the wire, decide on floor 0, write the wire. A
// decision never waits, and a wire call never decides: where one function has all
// three, as settle of internal/dispatcher, the decision in it is a call of floor 0.
//
// # Where to put what
//
//	it could run on paper, given now as an argument                 floor 0
//	it parses a workflow, hashes it, lists what it needs            internal/workflow
//	it says why something failed and what follows                   internal/failure (a new kind: the list above Kinds, kind.go)
//	it turns bytes into a job or an event, or back                  internal/job
//	it lists or counts jobs by what their events say                internal/job (fold.go)
//	it compares, ranks, counts, computes a delay or a block         internal/route (how long a block lasts: BlockFor, policy.go)
//	it is the name of a subject, stream, bucket or header           internal/names
//	it reads or writes NATS for dispatchers or agents, or acks      internal/queue
//	a program that submits and follows jobs needs it                jetstream
//	it speaks HTTP with a browser, or is a part of the page         internal/dashboard
//	it knows a ComfyUI path, message type or error text             internal/comfy
//	it holds a ticker or starts a goroutine for the fleet's work    internal/dispatcher, internal/agent
//	it answers a program that was written for ComfyUI               internal/gateway
//	it concerns requests to addresses that tenants have chosen      internal/outside
//	it reads a flag or the environment, or picks a default          cmd/dispatcher, cmd/agent
//	it is a default of what NATS keeps, for how long or how much    internal/queue
//	it says what a tenant's or a host's key may do in NATS          internal/natsserver
//	it concerns logging, signals, the version, the connection       internal/daemon
//	it prints tables, colours or progress, or words for people      internal/daemon
//	it is none of these                                             name the new room here first
//
// # Dependencies
//
// Each one is here because writing it ourselves would be worse:
//
//	github.com/nats-io/nats.go             the NATS client; its jetstream package is imported in one room, as natsjs
//	github.com/nats-io/nats-server/v2      NATS in the process: one command is a working system, and tests need no other
//	github.com/nats-io/jwt/v2              tokens of NATS accounts: one wrong field is a hole, and the server reads them with it
//	github.com/nats-io/nkeys               the keys that sign these tokens, in the form that NATS and its tools know
//	github.com/gorilla/websocket           ComfyUI's websocket, from both sides: ping control and read limits, long proven against it
//	github.com/cespare/xxhash/v2           64-bit hashes for capability sets and rendezvous: a check is a look-up
//	github.com/google/uuid                 ids of agents and inboxes, and the form of prompt ids, which ComfyUI asks for
//	github.com/prometheus/client_golang    metrics in the form that every operator's monitoring reads
//	go.opentelemetry.io/proto/otlp         traces that every tracing system reads: the form of spans
//	go.opentelemetry.io/otel/exporters/otlp/otlptrace                 the same: the protocol
//	go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp   the same: over HTTP, and the variables of its specification
//	go.opentelemetry.io/otel/sdk           the same: what is said of the process, from these variables
//	go.opentelemetry.io/otel               the same: the attributes of the process
//	google.golang.org/protobuf             the same, in tests only
//	github.com/alecthomas/kong             flags from struct tags, each with its environment variable and help
//	github.com/vbauerster/mpb/v8           a live progress line per job on a terminal
//	golang.org/x/term                      whether a person is watching: live lines or plain ones
//	golang.org/x/image                     reads pictures in WebP, of which the agent makes small ones
//	golang.org/x/sync                      groups of goroutines that are waited for and whose errors are kept
//	lukechampine.com/blake3                BLAKE3, by which clients of the Comfy API v2 identify content
//	github.com/getkin/kin-openapi          compares answers with the OpenAPI document of the Comfy API v2, in tests only
//	github.com/google/go-cmp               differences that a person can read, in tests only
//	github.com/chromedp/chromedp           drives a real browser through the page, in tests only
//	github.com/chromedp/cdproto            the names of what chromedp asks of the browser, in tests only
//	go.uber.org/goleak                     proof in tests that every goroutine was waited for
//
// # Words
//
// One word per idea, the same in code, subjects, keys, metrics, logs and docs. Words that the field uses for other
// systems, and that stand for none of these, are task, worker (only ComfyUI's thread is one) and client (only of a
// connection).
//
//	ack             the message to NATS that removes a job from COMFY_JOBS; only a job that has ended is acked
//	affinity        an operator's rule that prefers hosts for a workflow, or excludes them
//	ageing          a lane that has waited counts as of a higher priority, one step every five minutes
//	agent           the process beside ComfyUI that accepts offers and runs jobs on its hosts
//	attempt         one run of a job on one host, numbered from 1; max_attempts bounds those that count
//	avoided host    one that failed the job before; it is used when no other host can take the job
//	backlog         ComfyUI's own queue of prompts
//	blame           the job that a host ran when it became unhealthy
//	block           a host gets no jobs of one workflow until the cooldown is over, those of one tenant, of some or of all; until then the block is in force
//	cap             the most jobs that a tenant may run at once (max_running); three other caps are named in full
//	cap of blocks   the longest time that a block lasts (Policy.Cap)
//	cap, lane       the most unfinished jobs of one lane
//	cap, waiting    the most tickets of all tenants together
//	capability      what a host can run: its node classes, model files and options
//	cause           why a host is unhealthy (failure.Cause), each with its own probe; of an event unblocked why the block ended (queue.UnblockCause)
//	ceiling         the priority that a tenant's more urgent jobs count as (max_priority)
//	chain           the events of one job, each appended by compare-and-set on the one before
//	claim           a dispatcher takes a ticket from the waiting room; of several that try, one succeeds
//	class           tickets that are alike for every decision; also the class_type of a node in a workflow
//	cooldown        how long a block lasts; it doubles with each block of the same pair
//	dead            the end of a job that will not be tried again, for one of a closed set of reasons
//	dead letter     a dead job as it was published, with its attempts, in COMFY_DEAD
//	delivery        a job as NATS has given it to one dispatcher
//	dispatcher      the process that receives jobs, chooses hosts and decides what follows from a failure
//	drain           a host, or a process, finishes what it runs and takes nothing new
//	event           what happened to a job, block, host or operator's call, stored in COMFY_EVENTS
//	evidence        facts by which a kind is decided: status, exception type, process; never a user's words
//	fleet           all hosts, agents and dispatchers on one NATS
//	grant           the tenants that a host serves, when it does not serve all
//	guilt           two hosts went down with a workflow in the same way: it is guilty, and its tenant's jobs of it end
//	hand            jobs that wait in a dispatcher for a moment, with their delivery and without a ticket
//	hash            what identifies a workflow: SHA-256 of its structure and models, without prompts, seeds and sizes
//	head start      how long a freed slot, or a job that becomes due, is left to its home
//	heartbeat       what is written again and again so that presence lasts
//	hold            why no host may take a job now, and until when (route.Hold)
//	home            the dispatcher that gives a host its jobs first, by rendezvous hash; also the one that keeps a tenant's cap
//	host            one ComfyUI, by its name
//	installation    what equally installed hosts can run: one capability, which they share
//	job             a workflow that somebody has published, with an id that runs once
//	kind            why an attempt failed, one of a closed set (internal/failure); also the type of an event
//	label           a property of a host, key=value, that can be given where a host's name can
//	lane            a tenant's jobs of one priority
//	lease           the right to a job: who extends its delivery owns it, and when nobody does it is delivered again
//	level           how many blocks a pair had before this one
//	likeness        two attempts ended with their hosts at the same node and progress, or after the same time
//	loop            the one goroutine of a dispatcher that decides; it never waits for NATS
//	lost            an attempt whose agent is gone; a lost host is one whose ComfyUI is
//	mark            the sequence of an event in COMFY_EVENTS (job.Mark has its time too); by that of its failed event a strike is counted once
//	mirror          what a bucket has, kept up to date by its watch
//	model           a file that a workflow loads on the host, such as a checkpoint
//	node            a node of a workflow's graph
//	offer           the request of a dispatcher to an agent to run a job; it is accepted, or refused with a reason
//	option          a value of a node's input that a host lists as a choice
//	orphan          a prompt that may still run on a host and for which no attempt waits; it is cancelled when ComfyUI answers
//	owned job       a job, read whole, whose lease a dispatcher has, with all that its walk has read and decided (owned)
//	pair            a host and a hash: what strikes and blocks are counted for
//	park            a job's delivery is left to NATS until a time, while its ticket waits
//	pool            classes that the same hosts can take
//	prefetch        one more job that a host accepts while all its slots run
//	presence        a host's or dispatcher's key in NATS; when it is not renewed it ends, and its owner is offline
//	priority        0 to 9, 9 first
//	probation       after a block a host takes one job of that workflow at a time, until one succeeds
//	probe           the agent's own test whether a cause of sickness is over
//	promise         an agent that has accepted a job begins it within AckWait, or it is offered elsewhere
//	prompt          ComfyUI's word for a submitted workflow; it stays inside internal/comfy and internal/agent
//	proven          the host is to blame for a failure and the job is not, so that it is no strike and does not count
//	quota           the most unfinished jobs, or bytes of them, that a tenant may have
//	reason          why a job waits or is dead, one of a closed set
//	record          a ticket as the waiting room keeps it: as small as it can be, since there may be very many (internal/route)
//	redelivered     a job that NATS delivers again, because its lease ran out
//	refusal         a host's ComfyUI would not take the job; another host is asked
//	release         to give back a slot that was kept for a job
//	requeue         a dead job is published again, as a new one
//	requirement     a node class, model or option that a workflow needs of a host
//	resting host    one that accepted jobs and did not begin them; it gets none for a while
//	resting job     one that waits in the stream without a ticket, since its tenant has as many as it may; it cannot be claimed (restingJob)
//	room            a package with one concern; the waiting room is the set of tickets
//	second opinion  another host fails in the same way, which shows that the workflow is at fault
//	settle          to decide and to store what follows from a failed event
//	share           GPU-seconds that a lane has used lately, by which lanes take turns
//	shortage        jobs of a tenant that ran out of memory on a host
//	signature       exception, class and message of a failure without numbers and paths, for comparing hosts
//	size            width × height × pictures of a job; unknown counts as large where memory is concerned
//	slot            room on a host for one job that runs
//	strike          a failure that counts against a pair; enough of them make a block
//	suspicion       a job that a host went down with, remembered until a second one alike or a success
//	take in         to note what has happened, as each part of the loop does with what it is told
//	tenant          who owns jobs; its name is in every subject that concerns them
//	tenant's slot   one of the jobs that a tenant with a cap may run at once
//	ticket          a waiting job in COMFY_WAITING, with the lease that a claim passes on (queue.Ticket); in memory, what its turn depends on (route.Ticket)
//	trial           a host that may be sick takes one job at a time, and the next of another workflow decides
//	turn            one pass of the loop, in which it takes in what has happened and decides; it is a job's turn when it is next of those that wait
//	verdict         what follows from a kind; in answers, why a host takes a job or does not
//	waiting room    all tickets, of which every dispatcher has a copy
//	walk            a goroutine that reads and writes NATS for one job, and asks the loop
//	warm            a host that has the models of a workflow in memory; a cold one must load them
//	webhook         an address of a tenant, or of the fleet, to which events are delivered; each request is a try
//	weight          how much of the fleet a tenant gets beside others
//	withheld        jobs of a tenant and workflow that no host gets while guilt is decided
//	workflow        a ComfyUI graph in API format
package internal
