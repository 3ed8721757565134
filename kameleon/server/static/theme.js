// Sets the colours that were chosen before the page is painted; the system's where none were.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("kameleon.theme");
  } catch {
    // Storage is blocked: the system's colours.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
