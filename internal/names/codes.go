package names

// Error codes of JetStream's API, from nats-server's errors.json.
const (
	StoreFailedCode           = 10077 // a limit of the stream is reached, or the disk failed; the description says which
	InsufficientResourcesCode = 10023
	MemoryExceededCode        = 10028
	StorageExceededCode       = 10047
	NoPeersCode               = 10005 // no server of the cluster fits, for lack of room or for another reason
	StreamBytesExceededCode   = 10122
	MessageTooLargeCode       = 10054
	WrongLastSequenceCode     = 10071
	WrongLastSequenceInFlight = 10164
	DuplicateInFlightCode     = 10158 // a message with the same id is being stored
	ReplicasNotSupportedCode  = 10074
)

// NoRoom reports whether an error code means that JetStream, its disk or a stream has no room left.
func NoRoom(code uint16) bool {
	switch code {
	case StoreFailedCode, InsufficientResourcesCode, MemoryExceededCode, StorageExceededCode:
		return true
	}
	return false
}
