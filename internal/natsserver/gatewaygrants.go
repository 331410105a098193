package natsserver

import (
	"github.com/nats-io/jwt/v2"

	"github.com/comfyherd/comfyherd/internal/names"
)

// gatewayPermissions: what a gateway needs to serve any tenants. It publishes their jobs and cancels them, makes five of their
// calls, keeps what programs store for them, and reads events, waiting jobs, files and what hosts say of themselves. The token must
// stay as short as that of operators.
func gatewayPermissions() jwt.Permissions {
	const api, next, remove, create = "$JS.API.", "$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.CONSUMER.DELETE.", "$JS.API.CONSUMER.CREATE."
	var p jwt.Permissions
	p.Pub.Allow.Add(
		names.LanesSubject("*"), names.AppendSubject(names.CancelledEvents), names.FramesSubject("*"), names.HTTPSubject("*"),
		"$O."+names.OutputsStore+".>", api+"INFO", api+"STREAM.INFO.*", api+"CONSUMER.INFO.*.*", "$JS.FC.>",
	)
	for _, call := range []string{"why", "status", "cancel", "api_keys", "file.put"} {
		p.Pub.Allow.Add(names.TenantPrefix + "*." + call)
	}
	for _, bucket := range []string{names.UserDataBucket, names.AssetsBucket, names.RequestKeysBucket} {
		p.Pub.Allow.Add(names.KeySubject(bucket, ">"), api+"DIRECT.GET."+names.BucketStream(bucket)+".>")
	}
	p.Pub.Allow.Add(names.KeySubject(names.HiddenBucket, ">"), api+"DIRECT.GET."+names.JobsStream)
	for _, stream := range []string{
		names.EventsStream, names.StoreStream(names.InputsStore), names.StoreStream(names.OutputsStore), names.StoreStream(names.CatalogStore),
	} {
		p.Pub.Allow.Add(api+"DIRECT.GET."+stream, api+"DIRECT.GET."+stream+".>")
	}
	p.Pub.Allow.Add(api + "STREAM.MSG.GET.*") // from the leader of a stream with several copies
	for _, bucket := range []string{names.SecretsBucket, names.APIKeysBucket, names.WebhooksBucket} {
		p.Pub.Deny.Add(api + "STREAM.MSG.GET." + names.BucketStream(bucket))
	}
	p.Pub.Deny.Add(api + "STREAM.MSG.GET." + names.DeadStream)
	followed := []string{names.EventsStream}
	for _, bucket := range []string{names.CatalogsBucket, names.GrantsBucket, names.HiddenBucket, names.HostsBucket, names.UserDataBucket, names.AssetsBucket} {
		followed = append(followed, names.BucketStream(bucket))
	}
	for i, stream := range followed {
		p.Pub.Allow.Add(create + stream + ".*.>")
		if i > 0 {
			p.Pub.Allow.Add(remove + stream + ".*")
		}
	}
	p.Pub.Allow.Add(next + names.EventsStream + ".*")                         // whose consumers NATS removes
	for _, own := range []string{names.SettleConsumer, names.TallyConsumer} { // of dispatchers
		consumer := names.EventsStream + "." + own
		p.Pub.Deny.Add(next+consumer, create+consumer+".>")
	}
	p.Sub.Allow.Add(gatewayInbox+".>", names.AllLive)
	return p
}
