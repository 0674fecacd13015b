// What the page asks for beside the stream. It is asked again only while it is on the screen.

export class Fetched {
  // every is the time between two questions in milliseconds, by the last answer; taken is called
  // after each answer.
  constructor(url, every, taken) {
    Object.assign(this, { url, every, taken });
    this.value = null;
    this.error = '';
    this.ended = false;
    this.ask();
  }

  async ask() {
    clearTimeout(this.timer);
    if (this.ended) return;
    if (!document.hidden && !this.asking) {
      this.asking = true;
      try {
        const answer = await fetch(typeof this.url === 'function' ? this.url() : this.url);
        const value = await answer.json();
        if (answer.ok) [this.value, this.error] = [value, ''];
        else this.error = value.error;
      } catch {
        this.error = 'the page’s server does not answer';
      }
      this.asking = false;
      if (this.ended) return;
      this.taken(this);
    }
    clearTimeout(this.timer);
    if (this.every) this.timer = setTimeout(() => this.ask(), this.every(this.value));
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
  }
}
