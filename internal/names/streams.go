// Package names has all names that comfyherd uses on NATS: streams, buckets, object stores, consumers, subjects, headers and error
// codes, and the functions that build and split them. docs/contract.md describes what is under each name.
package names

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Streams.
const (
	JobsStream   = "COMFY_JOBS"
	EventsStream = "COMFY_EVENTS"
	DeadStream   = "COMFY_DEAD"
	LiveStream   = "COMFY_LIVE"

	DeliveriesStream = "COMFY_DELIVERIES"
)

// Buckets (KV) and object stores.
const (
	WaitingBucket      = "COMFY_WAITING"
	BlocksBucket       = "COMFY_BLOCKS"
	StrikesBucket      = "COMFY_STRIKES"
	HostsBucket        = "COMFY_HOSTS"
	DispatchersBucket  = "COMFY_DISPATCHERS"
	CapabilitiesBucket = "COMFY_CAPABILITIES"
	ConditionsBucket   = "COMFY_CONDITIONS"
	AffinityBucket     = "COMFY_AFFINITY"
	TenantsBucket      = "COMFY_TENANTS"
	SlotsBucket        = "COMFY_SLOTS"
	GrantsBucket       = "COMFY_GRANTS"
	SecretsBucket      = "COMFY_SECRETS"
	AssetsBucket       = "COMFY_ASSETS"
	RequestKeysBucket  = "COMFY_REQUESTS"
	UserDataBucket     = "COMFY_USERDATA"
	HiddenBucket       = "COMFY_HIDDEN"
	CatalogsBucket     = "COMFY_CATALOGS"
	APIKeysBucket      = "COMFY_APIKEYS"
	WebhooksBucket     = "COMFY_WEBHOOKS"
	OutputsStore       = "COMFY_OUTPUTS"
	InputsStore        = "COMFY_INPUTS"
	CatalogStore       = "COMFY_CATALOG"
)

// Consumers that all dispatchers share.
const (
	SettleConsumer   = "settle"   // of EventsStream
	AnnounceConsumer = "announce" // of the stream of BlocksBucket
	TallyConsumer    = "tally"    // of EventsStream
	WebhooksConsumer = "webhooks" // of EventsStream
	DeliverConsumer  = "deliver"  // of DeliveriesStream
)

// DispatchConsumer is the consumer of JobsStream that delivers the jobs of a priority.
func DispatchConsumer(p job.Priority) string { return "dispatch_" + strconv.Itoa(int(p)) }

const (
	bucketPrefix = "KV_"
	storePrefix  = "OBJ_"
)

// BucketStream is the stream in which NATS keeps a bucket.
func BucketStream(bucket string) string { return bucketPrefix + bucket }

// BucketOf is the bucket that a stream keeps.
func BucketOf(stream string) string { return strings.TrimPrefix(stream, bucketPrefix) }

// KeySubject is the subject of a key of a bucket; with the key ">" it matches all keys.
func KeySubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// StoreStream is the stream in which NATS keeps an object store.
func StoreStream(store string) string { return storePrefix + store }

// StreamsPrefix begins the name of every stream, bucket and object store of the fleet.
const StreamsPrefix = "COMFY_"

// PlainName is the bucket or the object store that a stream keeps, or the stream's own name.
func PlainName(stream string) string {
	return strings.TrimPrefix(BucketOf(stream), storePrefix)
}

// MetaSubject is the subject of the description of a file.
func MetaSubject(store, name string) string { return MetaPrefix(store) + FileKey(name) }

// MetaPrefix is the beginning of the subjects of all descriptions of files in a store.
func MetaPrefix(store string) string { return "$O." + store + ".M." }

// PartsSubject is the subject of the parts of a file; parts is their name, which the file's description has as nuid.
func PartsSubject(store, parts string) string { return "$O." + store + ".C." + parts }

// FileKey is the name of a file in the form that subjects and headers have: base64url.
func FileKey(name string) string { return base64.URLEncoding.EncodeToString([]byte(name)) }

// FileOfKey gives the name of which FileKey has made the key; false when the key has not that form.
func FileOfKey(key string) (name string, ok bool) {
	decoded, err := base64.URLEncoding.DecodeString(key)
	return string(decoded), err == nil
}

// PairKey is the key of a block or of strikes: <host>.<hash>.
func PairKey(host string, hash workflow.Hash) string { return host + "." + string(hash) }

// SplitPair splits a key that PairKey has made; false when it has not that form.
func SplitPair(key string) (host string, hash workflow.Hash, ok bool) {
	host, rest, _ := strings.Cut(key, ".")
	return host, workflow.Hash(rest), host != "" && rest != ""
}

// Headroom is how many bytes of NATS' max_payload a job must leave free, for the headers of its offers and its dead letter.
const Headroom = 4 << 10
