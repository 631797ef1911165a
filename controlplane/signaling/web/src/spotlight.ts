// Who is shown large in the layout that follows the speaker. It stays with somebody until he is silent
// and another one speaks, so that it does not jump when several speak at once. Pure.

export class Spotlight {
  private current: string | undefined;

  /** `speaking`: the loudest first. `others`: everybody who can be shown, the newest last. */
  choose(speaking: Iterable<string>, others: readonly string[]): string | undefined {
    const loud = [...speaking].filter((id) => others.includes(id));
    const isThere = this.current !== undefined && others.includes(this.current);
    if (loud.length > 0 && !(isThere && loud.includes(this.current!))) [this.current] = loud;
    else if (!isThere) [this.current] = others;
    return this.current;
  }
}
