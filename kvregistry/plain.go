package kvregistry

import "strconv"

// plain is a text from outside for a log line: quoted where it holds what can't be printed as it is, so that it steers no terminal, whatever the handler.
func plain(text string) string {
	if quoted := strconv.Quote(text); len(quoted) != len(text)+len(`""`) {
		return quoted
	}
	return text
}
