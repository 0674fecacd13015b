package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Print writes the report for people. It does not escape what it quotes of the bucket.
func (r Report) Print(w io.Writer) {
	text := fmt.Sprintf("tenant %s, asked of server %s (nats-server %s): ", r.Tenant, r.Server,
		r.Version)
	if len(r.Findings) == 0 {
		text += "nothing is wrong"
	} else {
		text += fmt.Sprintf("%s, %s, %s", number(r.count(Error), "error"),
			number(r.count(Warning), "warning"), number(r.count(Hint), "hint"))
	}
	_, _ = fmt.Fprintf(w, "%s; %s passed, %d not done\n", text, number(len(r.Passed), "check"),
		len(r.NotChecked))
	for _, f := range r.Findings {
		_, _ = fmt.Fprintf(w, "\n%s: %s\n", f.Severity, f.Name)
		for _, part := range []struct{ head, text string }{
			{"seen", f.Seen}, {"why", f.Why}, {"mend", f.Mend},
		} {
			_, _ = fmt.Fprintf(w, "  %-5s %s\n", part.head,
				strings.ReplaceAll(part.text, "\n", "\n        "))
		}
	}
	var reasons []string
	by := map[string][]string{}
	for _, u := range r.NotChecked {
		if by[u.Because] == nil {
			reasons = append(reasons, u.Because)
		}
		by[u.Because] = append(by[u.Because], u.Name)
	}
	if len(reasons) > 0 {
		_, _ = fmt.Fprintln(w)
	}
	for _, because := range reasons {
		_, _ = fmt.Fprintf(w, "not checked, because %s: %s\n", because,
			strings.Join(by[because], ", "))
	}
}

// number is a number of things with a plural of s.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// examples is the most that a finding names.
const examples = 5

// some names a few of many.
func some(names []string) string {
	slices.Sort(names)
	text := strings.Join(names[:min(examples, len(names))], ", ")
	if more := len(names) - examples; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
