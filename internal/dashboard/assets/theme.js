// Sets the theme before the first paint. It is no module, since those run after the page is read.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem('comfyherd.theme');
  } catch {
    // Storage may be forbidden: the system's theme holds.
  }
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
})();
