package claim

import "errors"

// told is what the log was last told of a registration.
type told struct {
	word  string // empty while it is not told to be registered
	lease string
}

// News is what changed about a registration since it was last told.
type News int

// What may have changed.
const (
	Old        News = iota
	Registered      // it is in the bucket
	Again           // it is there under another lease
	Changed         // it says something else of what word is made of
	Ended           // it was taken back
)

// News returns what changed about a registration, as of now, and notes that it is told. word says
// of a registration what the log tells of it.
func (o *Owner[T]) News(g *Registration[T], word func(*T) string) (News, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := g.told
	switch {
	case errors.Is(g.over, ErrEnded):
		g.told = told{}
		if was.word != "" {
			return Ended, ""
		}
	case g.over != nil: // which has a line of its own
		g.told = told{}
	case !g.settled() || g.lease == "":
	default:
		now := told{word(&g.top().want), g.lease}
		switch {
		case was.word == "":
			g.told = now
			return Registered, now.word
		case was.word != now.word:
			g.told.word = now.word
			return Changed, now.word
		case was.lease != now.lease:
			g.told.lease = now.lease
			return Again, now.word
		}
	}
	return Old, ""
}
