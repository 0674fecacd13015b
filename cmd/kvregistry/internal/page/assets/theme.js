// The theme is set before the first paint, so that the page does not flash.
const kept = (() => {
  try { return localStorage.getItem('theme'); } catch { return null; }
})();
if (kept === 'light' || kept === 'dark') document.documentElement.dataset.theme = kept;
