// What the page knows of the tenant: the services and their instances.

export class Store {
  constructor() {
    this.services = new Map(); // name → service
    this.instances = 0;
    this.synced = false; // everything that was there is in it
    this.revision = 0;
  }

  // apply takes one change of one service.
  apply(change) {
    let service = this.services.get(change.service);
    if (!service) {
      service = { name: change.service, byID: new Map(), rows: null, summary: null };
      this.services.set(change.service, service);
    }
    this.instances -= service.byID.size;
    const now = this.synced ? performance.now() : 0;
    for (const one of change.put ?? []) {
      one.changed = now;
      service.byID.set(one.id, one);
    }
    for (const id of change.gone ?? []) service.byID.delete(id);
    this.instances += service.byID.size;
    service.rows = service.summary = null;
    if (service.byID.size === 0) this.services.delete(change.service);
  }

  // list is the instances of a service, ordered by id.
  list(name) {
    const service = this.services.get(name);
    if (!service) return [];
    service.rows ??= [...service.byID.values()].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
    return service.rows;
  }

  find(name, id) { return this.services.get(name)?.byID.get(id); }

  // summaries is one row for each service, ordered by name.
  summaries() {
    const list = [];
    for (const service of this.services.values()) list.push(service.summary ??= summary(service));
    return list.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  // search finds instances of all services that contain each word of a text.
  search(text) {
    const found = [];
    const match = matcher(text, hay);
    for (const name of [...this.services.keys()].sort()) {
      for (const one of this.list(name)) if (match(one)) found.push(one);
    }
    return found;
  }
}

// matcher says whether a row contains each word of a text.
export function matcher(text, of) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (row) => {
    const all = of(row);
    return words.every((word) => all.includes(word));
  };
}

// hay is all that a search looks through, of one instance.
export function hay(one) {
  return one.hay ??= [
    one.name, one.id, one.address, one.url, `version:${one.version ?? ''}`, `zone:${one.zone ?? ''}`,
    `host:${one.host ?? ''}`, `status:${one.status ?? ''}`, `owner:${one.owner ?? ''}`,
    ...(one.tags ?? []).map((tag) => `tag:${tag}`),
    ...Object.entries(one.metadata ?? {}).map(([k, v]) => `${k}=${v}`),
    ...Object.entries(one.endpoints ?? {}).map(([k, v]) => `${k}=${v}`),
  ].join('\n').toLowerCase();
}

function summary(service) {
  const counts = { passing: 0, warning: 0, critical: 0, draining: 0, other: 0 };
  const versions = new Set(), zones = new Set(), tags = new Set();
  for (const one of service.byID.values()) {
    counts[Object.hasOwn(counts, one.status) ? one.status : 'other']++;
    if (one.version && versions.size < 20) versions.add(one.version);
    if (one.zone && zones.size < 20) zones.add(one.zone);
    for (const tag of one.tags ?? []) if (tags.size < 20) tags.add(tag);
  }
  const some = (set, most, word) => (set.size > most ? `${set.size} ${word}` : [...set].sort().join(', '));
  return {
    name: service.name, size: service.byID.size, counts,
    versions: some(versions, 2, 'versions'), zones: some(zones, 1, 'zones'), tags: [...tags].sort(),
  };
}
