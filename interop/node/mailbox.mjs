// Things that arrive, to be waited for.

export const TIMEOUT_MS = 10_000;

export class Mailbox {
  #arrived = [];
  #waiting = [];

  constructor(name) {
    this.name = name;
  }

  put(thing) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(thing);
    else this.#arrived.push(thing);
  }

  /** The next thing, or an error after `timeoutMs`. */
  take(timeoutMs = TIMEOUT_MS) {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(arrive), 1);
        reject(new Error(`no ${this.name} within ${timeoutMs} ms`));
      }, timeoutMs);
      const arrive = (thing) => {
        clearTimeout(timer);
        resolve(thing);
      };
      this.#waiting.push(arrive);
    });
  }
}
