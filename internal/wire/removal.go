package wire

import (
	"encoding/json"
	"os"

	"github.com/kvregistry/go/internal/document"
)

// Removal is the body of the purge of a key that a person had removed. It is for people to read.
type Removal struct {
	By   string `json:"by"` // what removed the key; empty if the purge does not say
	Host string `json:"host,omitempty"`
	PID  int    `json:"pid"`
}

// NewRemoval makes the body of a purge by this process.
func NewRemoval(by string) []byte {
	data, _ := json.Marshal(Removal{by, hostname(), os.Getpid()}) // strings and numbers marshal
	return data
}

// ReadRemoval reads the body of a purge. What the body does not say is zero.
func ReadRemoval(body []byte) (r Removal) {
	m, _ := document.Read(body)
	for m.Next() {
		switch string(m.Name) {
		case "by":
			r.By, _ = document.Text(m.Value)
		case "host":
			r.Host, _ = document.Text(m.Value)
		case "pid":
			r.PID, _ = document.Whole(m.Value)
		}
	}
	return r
}
