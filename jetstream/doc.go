// Package jetstream is for programs that submit jobs to a comfyherd fleet and follow them.
//
// A job that Submit has stored is kept until it has ended, and it ends exactly once: completed, dead or cancelled. Its events are
// in order, and FollowMany gives each of them once, from the first to the end, over outages of NATS and of the fleet.
//
//	acme := jetstream.NewClient(nc, "acme")
//	receipt, err := acme.Submit(ctx, 5, jetstream.Spec{Workflow: workflow})
//	for event, err := range acme.FollowMany(ctx, []jetstream.ID{receipt.Job}) {
//
// A Client acts for one tenant and needs no NATS permissions but for the tenant's own subjects: it opens no stream and no
// bucket. Besides submitting and following it asks where a job stands (Status), why it waits (Why), lists jobs and dead jobs,
// cancels, requeues, stores the files that jobs need and opens those that jobs have made. What a dispatcher answers instead of
// an answer is an error of a type of its own: BadRequest and those beside it.
//
// The wire itself, for programs in other languages, is described in docs/contract.md.
package jetstream
