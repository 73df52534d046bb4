// The rule of find_matches in queries.py, for `on` (sample, step, unit) as one array of 0 and 1.
function findMatches(on, [samples, steps, units], { sample, start, stop }, count) {
  const length = stop - start, all = [...Array(units).keys()];
  const isOn = (s, t, unit) => on[(s * steps + t) * units + unit] === 1;
  const holds = (s, first, unit) => {
    let step = first;
    while (step < first + length && isOn(s, step, unit)) step += 1;
    return step === first + length;
  };
  const selected = all.filter((unit) => holds(sample, start, unit));

  function candidate(s, first) {
    const shared = selected.filter((unit) => holds(s, first, unit));
    const numOn = all.filter((unit) => holds(s, first, unit)).length;
    const allOn = (step) => step >= 0 && step < steps && shared.every((unit) => isOn(s, step, unit));
    let before = first, after = first + length;
    while (shared.length && allOn(before - 1)) before -= 1;
    while (shared.length && allOn(after)) after += 1;
    const union = selected.length + numOn - shared.length, run = after - before;
    const rank = [-shared.length, union, -run, s, first];
    return { sample: s, start: first, stop: first + length, shared, numOn, run, rank };
  }

  const compare = (a, b) => {
    const differs = a.rank.findIndex((level, index) => level !== b.rank[index]);
    return a.rank[differs] - b.rank[differs];
  };
  const found = [];
  for (let s = 0; s < samples; s += 1) {
    let best = null;
    for (let first = 0; first + length <= steps; first += 1) {
      if (s === sample && first < stop && first + length > start) continue;
      const other = candidate(s, first);
      if (other.shared.length && (!best || compare(other, best) < 0)) best = other;
    }
    if (best) found.push(best);
  }
  return { selected, found: found.sort(compare).slice(0, count) };
}
