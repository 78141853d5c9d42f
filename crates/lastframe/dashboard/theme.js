// Not a module: it runs before anything is painted, so that a page that is dark never flashes white.
"use strict";
{
  const chosen = localStorage.getItem("lastframe.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
