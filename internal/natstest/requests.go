package natstest

// StreamRequests are the requests of JetStream's API that end in a stream's name.
var StreamRequests = []string{
	"STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO", "STREAM.DELETE", "STREAM.PURGE",
	"STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.MSG.GET", "STREAM.MSG.DELETE",
	"STREAM.PEER.REMOVE", "STREAM.LEADER.STEPDOWN", "DIRECT.GET", "CONSUMER.CREATE",
	"CONSUMER.NAMES", "CONSUMER.LIST",
}

// ConsumerRequests are the requests that end in a stream's and a consumer's name.
var ConsumerRequests = []string{
	"CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.INFO", "CONSUMER.DELETE",
	"CONSUMER.PAUSE", "CONSUMER.RESET", "CONSUMER.UNPIN",
	"CONSUMER.LEADER.STEPDOWN", "CONSUMER.MSG.NEXT",
}
