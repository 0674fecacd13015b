// The place that the page shows is in the address: each can be kept as a link, and the back button
// goes to the one before.

const plainViews = ['services', 'changes', 'leases', 'holds', 'health', 'doctor'];

// parse reads a place from the address's hash.
export function parse(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const params = new URLSearchParams(query ?? '');
  const q = params.get('q') || undefined, status = params.get('status') || undefined;
  let parts = [];
  try {
    parts = path.split('/').map(decodeURIComponent);
  } catch { /* not an address of this page */ }
  if (parts[0] === 'service' && parts[1]) return { view: 'service', name: parts[1], id: parts[2], q, status };
  return { view: plainViews.includes(parts[0]) ? parts[0] : 'services', q, status };
}

// format writes a place as a hash.
export function format({ view, name, id, q, status }) {
  const parts = [view];
  if (view === 'service') parts.push(name);
  if (view === 'service' && id !== undefined) parts.push(id);
  const params = new URLSearchParams();
  if (q) params.set('q', q);
  if (status) params.set('status', status);
  const query = params.toString().replaceAll('+', '%20');
  return `#/${parts.map(encodeURIComponent).join('/')}${query && `?${query}`}`;
}

// viewKey tells one view from another: what differs beside it is shown by the same view.
export function viewKey(route) { return route.view === 'service' ? `service\n${route.name}` : route.view; }
