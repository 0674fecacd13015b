package check

// verdict is what the results of a check come to. Single ones of the other kind don't move it.
type verdict struct {
	known   bool // there was a result
	failing bool
	against int // results in a row that say the opposite
}

// add takes a result and reports whether the verdict is another now.
func (v *verdict) add(failed bool, rise, fall int) (changed bool) {
	need := fall
	if v.failing {
		need = rise
	}
	switch {
	case !v.known:
		v.known, v.failing = true, failed
		return true
	case failed == v.failing:
		v.against = 0
		return false
	}
	if v.against++; v.against < need {
		return false
	}
	v.failing, v.against = failed, 0
	return true
}
