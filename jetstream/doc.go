// Package jetstream is for programs that submit jobs to a comfyherd fleet and follow them.
//
// A job that Submit has stored is kept until it has ended, and it ends exactly once: completed, dead or cancelled. Its events are
// in order, and FollowMany gives each of them once, from the first to the last, also across outages of NATS and of the fleet.
//
// Begin with NewClient, on a NATS connection of yours, then call Submit with a priority and a workflow in ComfyUI's API format, and
// range over FollowMany with the id that the Receipt has (the package example shows the whole program):
//
//	acme := jetstream.NewClient(nc, "acme")
//	receipt, err := acme.Submit(ctx, 5, jetstream.Spec{Workflow: workflow})
//	for event, err := range acme.FollowMany(ctx, []jetstream.ID{receipt.Job}) {
//
// A Client acts for one tenant and needs no NATS permissions but those for the tenant's own subjects: it opens no stream and no
// bucket. The other methods by what they are for:
//
//	one job           Status, Story, Why, Cancel (also a whole lane: see the example of Cancel)
//	lists             Jobs, Waiting, Workflows, Queue, Dead and, to run dead jobs again, Requeue
//	events            Follow for all jobs of the tenant, Events for pages of them, SequenceAt for a time, FollowProgress
//	files             PutFile for a job's inputs, OpenFile for its outputs, OpenInput, StatFile, StatInput
//	webhooks          SetWebhook, Webhooks, TestWebhook, RedeliverWebhook, RotateWebhook, RemoveWebhook; their receiver calls VerifyWebhook
//	large or paid     ByReference for a job that is too large for a message, KeepAPIKeys for API nodes
//
// A call that a dispatcher refuses gives an error with a type of its own, such as BadRequest or NotFound; each type says what to
// do next. Submit needs no dispatcher at that moment: its errors are ErrTooLarge, ErrLaneFull and ErrNoSpace.
//
// What else the package has is the layer below Client, for programs that build messages themselves: Publish and Ask; Code and Refused,
// which read an error of a call; ChunkSize, FileChunkSize, CallTime, FileRequest, FileAnswer, FilePut and FilePutAnswer, of which file
// calls are made; SignWebhook. Dispatchers use the same layer. The wire itself is described in docs/contract.md.
package jetstream
