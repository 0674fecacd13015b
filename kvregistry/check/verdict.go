package check

// verdict is the damped state of a check. A single result of the other kind does not change it.
type verdict struct {
	known   bool // there was a result
	failing bool
	against int // results in a row that say the opposite
}

// add counts a result and reports whether the verdict has changed.
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
