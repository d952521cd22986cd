package reports

// symbol stands before a verdict; the word stands beside it, so that it is never the only sign.
func symbol(verdict string) string {
	switch verdict {
	case verdictPass, "good":
		return "✅"
	case verdictFail, "bad":
		return "❌"
	case verdictInconclusive, "undecided", "noData":
		return "❔"
	default:
		return "⚠️"
	}
}

// verdictWord is a verdict or a state as people write it.
func verdictWord(v string) string {
	switch v {
	case "noData":
		return "no data"
	case "rolledBack":
		return "rolled back"
	case outcomeNone:
		return "not decided"
	case StepNotReached:
		return "not reached"
	default:
		return v
	}
}

// sign is the symbol as a plain character: a browser may have no font for emoji.
func sign(verdict string) string {
	switch symbol(verdict) {
	case "✅":
		return "✓"
	case "❌":
		return "✗"
	case "❔":
		return "?"
	default:
		return "!"
	}
}
