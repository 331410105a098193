package names

// Error codes of JetStream's API.
const (
	StoreFailedCode           = 10077 // a limit of the stream, or what the disk says
	InsufficientResourcesCode = 10023
	MemoryExceededCode        = 10028
	StorageExceededCode       = 10047
	NoPeersCode               = 10005 // no server of the cluster has room, or something else
	StreamBytesExceededCode   = 10122
	MessageTooLargeCode       = 10054
	WrongLastSequenceCode     = 10071
	WrongLastSequenceInFlight = 10164
	DuplicateInFlightCode     = 10158 // of a message id
	NoMessageFoundCode        = 10037
	ReplicasNotSupportedCode  = 10074
)

// NoRoom reports whether an error code says that JetStream, its disk or a stream has no room left.
func NoRoom(code uint16) bool {
	switch code {
	case StoreFailedCode, InsufficientResourcesCode, MemoryExceededCode, StorageExceededCode:
		return true
	}
	return false
}
